"""Removes the practice networks and namespaces of a test process that could not do it itself.

    reaper.py PID    (its standard input is a pipe that the test process holds open)

A test process may be killed with its clean-up undone: by SIGKILL, or by xdist, which gives an
interrupted worker ten seconds. The pipe ends with it, whatever ended it. Everything a test makes
carries the number of its process first, as in kvmdiag-test-4711-3-router or kvmdiag-fix4711-host;
what already stood when the process began is not its own.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from kvmdiag.errors import KvmdiagError
from kvmdiag.lab import manager, state

NAMESPACES = Path("/run/netns")


def made_by(pid: int) -> tuple[set[str], set[str]]:
    """Labels of practice networks, and names of namespaces."""
    ours = re.compile(rf"(kvmdiag-)?[a-z]+-?{pid}(-|$)")
    labels = {path.stem for path in state.DIRECTORY.glob("*.json")}
    names = {path.name for path in NAMESPACES.glob("kvmdiag-*")}
    return {label for label in labels if ours.match(label)}, {
        name for name in names if ours.match(name)
    }


def remove_network(label: str) -> None:
    """Remove a practice network, once whoever builds it is done."""
    with suppress(KvmdiagError):
        manager.down(label)


def remove_namespace(name: str) -> None:
    """End what runs in a namespace, and delete it."""
    inside = subprocess.run(["ip", "netns", "pids", name], capture_output=True, check=False)
    for pid in inside.stdout.split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def main(pid: int) -> None:
    """Wait for the end of the process, then remove what it left."""
    labels_before, names_before = made_by(pid)
    sys.stdout.write("watching\n")
    sys.stdout.flush()
    sys.stdin.buffer.read()
    for label in made_by(pid)[0] - labels_before:
        remove_network(label)
    for name in made_by(pid)[1] - names_before:
        remove_namespace(name)


if __name__ == "__main__":
    main(int(sys.argv[1]))
