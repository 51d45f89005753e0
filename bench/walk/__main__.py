"""How many walks a second: the practice cluster, 10,000 rules, all pairs of 200 guests.

    .venv/bin/python bench/walk [--write]

A walk of both directions is a request and its reply. Each figure is of one process on one
core, by its own time on the processor, so that what else the machine does matters little. With
``--write`` the results are kept in bench/results/walk.json.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tracemalloc
from itertools import cycle, islice, permutations
from pathlib import Path

from places import cluster, guests, with_rules

from kvmdiag.model.question import Question
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.simulate.endpoints import resolve
from kvmdiag.simulate.facts.view import View
from kvmdiag.simulate.walk import walk

sys.path.append(str(Path(__file__).parent.parent))  # what all measurements share
from machine import machine, now

GUESTS = 200
RULES = 10_000
_RESULTS = Path(__file__).parent.parent / "results" / "walk.json"


def main() -> None:
    """Measure, print, and keep the results if asked to."""
    small = cluster()
    many = with_rules(small, RULES)
    crowd = guests(GUESTS)
    pairs = permutations(range(GUESTS), 2)
    every = [resolve(crowd, f"g{a}", f"g{b}") for a, b in pairs]
    results = {
        "cluster": _rate(small, _asked(small), 3000),
        f"cluster with {RULES} rules in FORWARD": _rate(many, _asked(many), 1500),
        f"all pairs of {GUESTS} guests": _rate(crowd, every, len(every)),
        "memory": {
            "KiB for each 1,000 rules": [_memory(with_rules(small, n)) for n in (2000, 4000, 8000)]
        },
        "machine": machine(),
        "taken_at": now(),
    }
    if os.geteuid() == 0:
        results[f"really pinging {GUESTS} pairs, one after the other"] = _pings(GUESTS)
    print(json.dumps(results, indent=2))
    if "--write" in sys.argv:
        _RESULTS.parent.mkdir(exist_ok=True)
        _RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def _asked(snapshot: Snapshot) -> list[Question]:
    return [
        resolve(snapshot, "node1", "10.0.0.9"),
        resolve(snapshot, "node1", "10.0.0.9", proto="tcp", port=443),
        resolve(snapshot, "node1", "host"),
        resolve(snapshot, "master", "10.0.0.9"),
        resolve(snapshot, "node1", "master"),
        resolve(snapshot, "host", "node1"),
    ]


def _rate(snapshot: Snapshot, questions: list[Question], count: int) -> dict[str, float]:
    """Walks of one snapshot, its view made beforehand, as a check makes them."""
    view = View(snapshot)
    walk(snapshot, questions[0], view=view)  # compiles what it comes by
    asked = list(islice(cycle(questions), count))
    start = time.process_time()
    directions = sum(len(walk(snapshot, question, view=view).traces) for question in asked)
    took = time.process_time() - start
    return {
        "requests with their replies": count,
        "seconds": round(took, 2),
        "requests with their replies a second": round(count / took),
        "walks a second": round(directions / took),
    }


def _memory(snapshot: Snapshot) -> int:
    """What a view of the snapshot takes when all its rules have been compiled."""
    question = resolve(snapshot, "node1", "10.0.0.9")
    tracemalloc.start()
    view = View(snapshot)
    walk(snapshot, question, view=view)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    host = view.stacks["host"].stack
    rules = sum(len(c.rules) for table in host.tables or () for c in table.chains)
    return round(size / 1024 / rules * 1000)


def _pings(count: int) -> dict[str, float]:
    """The same question put to the kernel: ``ping -c 1`` from one namespace to another."""
    one, other = (f"kvmdiag-bench-{os.getpid()}-{label}" for label in "ab")
    try:
        for name in (one, other):
            _ip("netns", "add", name)
        _ip("-n", one, "link", "add", "e0", "type", "veth", "peer", "name", "e0", "netns", other)
        for number, name in enumerate((one, other), 1):
            _ip("-n", name, "addr", "add", f"192.0.2.{number}/24", "dev", "e0")
            _ip("-n", name, "link", "set", "e0", "up")
        start = time.perf_counter()
        for _ in range(count):
            _ip("netns", "exec", one, "ping", "-nqc1", "-W5", "192.0.2.2")
        return {"seconds": round(time.perf_counter() - start, 2)}
    finally:
        for name in (one, other):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def _ip(*argv: str) -> None:
    subprocess.run(["ip", *argv], check=True, capture_output=True)


if __name__ == "__main__":
    main()
