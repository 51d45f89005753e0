"""Compound faults: whether plans restore the real path, and whether every step was needed.

    sudo python -m bench.compound [RUNS] [SEED] [NETWORK ...]

For each practice network: two or three faults that each break the network's example path, with
decoys drawn at random, are injected; kvmdiag is asked for a plan, which is carried out with the
very commands it prints; then a real ping is sent. Each step alone is undone for real: the ping
must fail, or the step was not needed. The figures go to bench/results/compound.json, beside
those of other seeds.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from bench.compound.decoys import DECOYS
from kvmdiag.collect.snapshot import collect
from kvmdiag.diagnose.check import Check, load_checks
from kvmdiag.diagnose.engine import diagnose
from kvmdiag.lab import builder, manager
from kvmdiag.lab.networks import networks
from kvmdiag.lab.spec import Fault, Network, namespace
from kvmdiag.simulate.endpoints import resolve

RESULTS = Path(__file__).parent.parent / "results" / "compound.json"

_LONG = ("bad", "named_otherwise")


def main() -> None:
    """Run, tell, and keep the figures."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in sys.argv[3:] or networks():
        found = Bench(networks()[name], random.Random(seed)).run(runs)  # noqa: S311 - no secret
        known.setdefault(name, {})[f"seed {seed}"] = found
        RESULTS.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
        print(name, json.dumps({k: v for k, v in found.items() if k not in _LONG}), flush=True)
        for result in found["bad"]:
            print("bad:", result)


class Bench:
    """One practice network, built once and mended between draws."""

    def __init__(self, network: Network, dice: random.Random) -> None:
        self._network = network
        self._dice = dice
        self._source, self._target = network.example.split()
        self._label = f"compound{os.getpid()}"
        self._checks: Sequence[Check] = load_checks()

    def run(self, runs: int) -> dict[str, Any]:
        """The figures of so many draws."""
        manager.up(self._network.name, label=self._label)
        try:
            faults = [fault for fault in self._network.faults if self._breaks(fault)]
            results = [self._draw(faults) for _ in range(runs)]
        finally:
            manager.down(self._label)
        good = [r for r in results if r["restored"] and not r["unneeded"]]
        return {
            "runs": runs,
            "faults": [fault.name for fault in faults],
            "restored": sum(r["restored"] for r in results),
            "with_no_unneeded_step": sum(not r["unneeded"] for r in results),
            "named_otherwise": [r for r in results if r["wrong"]],
            "good": len(good),
            "diagnose_seconds_median": statistics.median(r["seconds"] for r in results),
            "diagnose_seconds_max": max(r["seconds"] for r in results),
            "bad": [r for r in results if r not in good],
        }

    def _breaks(self, fault: Fault) -> bool:
        """Whether a fault is on the example path; others of the network stop other paths."""
        if fault.harmless:
            return False
        manager.break_(self._label, fault.name)
        try:
            return not self._pings()
        finally:
            manager.mend(self._label)

    def _draw(self, faults: list[Fault]) -> dict[str, Any]:
        chosen = self._chosen(faults)
        decoys = self._dice.sample(DECOYS, self._dice.randint(0, len(DECOYS)))
        try:
            for fault in chosen:
                manager.break_(self._label, fault.name)
            for decoy in decoys:
                builder.carry_out(decoy.steps, self._network, self._label)
            return self._judged(chosen, [decoy.name for decoy in decoys])
        finally:
            manager.mend(self._label)

    def _chosen(self, faults: list[Fault]) -> list[Fault]:
        """Two or three faults, and some of the network's decoys, that may be there together."""
        decoys = [fault for fault in self._network.faults if fault.harmless]
        while True:
            chosen = self._dice.sample(faults, self._dice.choice((2, 3)))
            chosen += self._dice.sample(decoys, self._dice.randint(0, len(decoys)))
            if not any(one.excludes(other) for one, other in combinations(chosen, 2)):
                return chosen

    def _judged(self, chosen: list[Fault], decoys: list[str]) -> dict[str, Any]:
        snapshot = collect(manager.scope(self._label))
        began = time.monotonic()
        report = diagnose(snapshot, self._checks, resolve(snapshot, self._source, self._target))
        seconds = round(time.monotonic() - began, 3)
        steps = report.plan.steps if report.plan is not None else ()
        was_broken = not self._pings()
        for step in steps:
            _carry_out(step.command)
        restored = self._pings(patient=True)
        unneeded = []
        for step in steps if restored else ():
            _carry_out(step.undo)
            if self._pings():
                unneeded.append(step.command)
            _carry_out(step.command)
            self._pings(patient=True)
        causes = {finding.check for finding in report.findings if finding.role == "cause"}
        return {
            "faults": [fault.name for fault in chosen],
            "decoys": decoys,
            "was_broken": was_broken,
            "restored": restored,
            "unneeded": unneeded,
            "wrong": sorted(causes - {fault.check for fault in chosen}),
            "steps": [step.command for step in steps],
            "seconds": seconds,
        }

    def _pings(self, *, patient: bool = False) -> bool:
        """A real ping; a patient one goes on until links and neighbours have settled."""
        end = time.monotonic() + (5 if patient else 0)
        inside = ["ip", "netns", "exec", namespace(self._label, self._source)]
        while True:
            ping = [*inside, "ping", "-n", "-c1", "-W0.5", self._target]
            if subprocess.run(ping, capture_output=True, check=False, timeout=20).returncode == 0:
                return True
            if time.monotonic() >= end:
                return False


def _carry_out(command: str) -> None:
    subprocess.run(shlex.split(command), capture_output=True, check=True, timeout=20)


if __name__ == "__main__":
    main()
