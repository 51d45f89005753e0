"""Compound faults: whether plans restore the real path, and whether every step was needed.

    sudo python -m bench.compound [RUNS] [SEED]

Each run builds nothing anew but the insides of the practice cluster, injects two or three
faults of the asked path with decoys drawn at random, asks kvmdiag for a plan, carries it out
with the very commands it prints, and sends a real ping. Then each step alone is undone for
real: the ping must fail, or the step was not needed. The figures go to
bench/results/compound.json.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path
from typing import Any

from kvmdiag.collect.snapshot import collect
from kvmdiag.diagnose.check import load_checks
from kvmdiag.diagnose.engine import diagnose
from kvmdiag.lab import manager
from kvmdiag.lab.networks import networks
from kvmdiag.lab.spec import Fault
from kvmdiag.simulate.endpoints import resolve

RESULTS = Path(__file__).parent.parent / "results" / "compound.json"
SOURCE, TARGET = "node1", "10.0.0.9"
# Its path is another one: it stops what is bound to node1's second NIC.
ELSEWHERE = {"guest-rp-filter-multihomed"}


def main() -> None:
    """Run, tell, and keep the figures."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    label = f"compound{os.getpid()}"
    manager.up("cluster", label=label)
    try:
        results = _runs(label, runs, random.Random(seed))  # noqa: S311 - a draw, no secret
    finally:
        manager.down(label)
    good = [r for r in results if r["restored"] and not r["unneeded"]]
    summary = {
        "runs": runs,
        "seed": seed,
        "restored": sum(r["restored"] for r in results),
        "with_no_unneeded_step": sum(not r["unneeded"] for r in results),
        "good": len(good),
        "diagnose_seconds_median": sorted(r["seconds"] for r in results)[runs // 2],
        "diagnose_seconds_max": max(r["seconds"] for r in results),
        "bad": [r for r in results if r not in good],
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(summary, indent=2) + "\n")
    print(json.dumps({k: v for k, v in summary.items() if k != "bad"}, indent=2))
    for result in summary["bad"]:
        print("bad:", result)


def _runs(label: str, runs: int, dice: random.Random) -> list[dict[str, Any]]:
    network = networks()["cluster"]
    faults = [f for f in network.faults if f.check is not None and f.name not in ELSEWHERE]
    decoys = [f for f in network.faults if f.check is None]
    checks = load_checks()
    results = []
    for _ in range(runs):
        chosen = _draw(dice, faults, decoys)
        for fault in chosen:
            manager.break_(label, fault.name)
        results.append(_one(label, checks, chosen))
        manager.mend(label)
    return results


def _draw(dice: random.Random, faults: list[Fault], decoys: list[Fault]) -> list[Fault]:
    """Two or three faults, and some decoys, that may be in a network together."""
    while True:
        chosen = dice.sample(faults, dice.choice((2, 3)))
        chosen += dice.sample(decoys, dice.randint(0, len(decoys)))
        if not any(
            one.name in other.apart_from or other.name in one.apart_from
            for one, other in combinations(chosen, 2)
        ):
            return chosen


def _one(label: str, checks: Any, chosen: list[Fault]) -> dict[str, Any]:
    snapshot = collect(manager.scope(label))
    began = time.monotonic()
    report = diagnose(snapshot, checks, resolve(snapshot, SOURCE, TARGET))
    seconds = round(time.monotonic() - began, 3)
    steps = report.plan.steps if report.plan is not None else ()
    was_broken = not _pings(label)
    for step in steps:
        _carry_out(step.command)
    restored = _pings(label, patient=True)
    unneeded = []
    for step in steps if restored else ():
        _carry_out(step.undo)
        if _pings(label):
            unneeded.append(step.command)
        _carry_out(step.command)
        _pings(label, patient=True)
    return {
        "faults": [fault.name for fault in chosen],
        "was_broken": was_broken,
        "restored": restored,
        "unneeded": unneeded,
        "steps": [step.command for step in steps],
        "seconds": seconds,
    }


def _pings(label: str, *, patient: bool = False) -> bool:
    """A real ping; a patient one goes on until links and neighbours have settled."""
    end = time.monotonic() + (5 if patient else 0)
    while True:
        argv = f"ip netns exec kvmdiag-{label}-{SOURCE} ping -c1 -W0.5 {TARGET}"
        done = subprocess.run(shlex.split(argv), capture_output=True, check=False, timeout=20)
        if done.returncode == 0:
            return True
        if time.monotonic() >= end:
            return False


def _carry_out(command: str) -> None:
    subprocess.run(shlex.split(command), capture_output=True, check=True, timeout=20)


if __name__ == "__main__":
    main()
