"""Practice networks for tests: under labels of their own, and gone afterwards."""

import itertools
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kvmdiag.collect.snapshot import collect
from kvmdiag.diagnose.check import load_checks
from kvmdiag.diagnose.engine import diagnose
from kvmdiag.lab import manager, state
from kvmdiag.lab.spec import namespace
from kvmdiag.model.report import Report
from kvmdiag.simulate.endpoints import resolve

_numbers = itertools.count(1)


class Lab:
    """A practice network that stands (or stood) under a label."""

    def __init__(self, label: str) -> None:
        self.label = label

    def run(self, machine: str, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run a program in a machine."""
        return subprocess.run(
            ["ip", "netns", "exec", namespace(self.label, machine), *argv],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )

    def reaches(self, *ping: str, wait: str = "2", machine: str = "node1") -> bool:
        """Whether one real ping is answered; ``wait`` in seconds."""
        return self.run(machine, "ping", "-n", "-c1", "-W", wait, *ping).returncode == 0

    def recovers(self, *ping: str, machine: str = "node1") -> bool:
        """Whether a real ping is answered before long, once a fault is gone.

        A question for the neighbour that nobody could answer fails up to three seconds after it
        was asked, and takes with it what was sent meanwhile.
        """
        end = time.monotonic() + 20
        while not self.reaches(*ping, machine=machine):
            if time.monotonic() > end:
                return False
        return True

    def connects(self, machine: str, address: str, port: int) -> bool:
        """Whether one real TCP connection is accepted."""
        connect = f"import socket; socket.create_connection(({address!r}, {port}), 2).close()"
        return self.run(machine, sys.executable, "-c", connect).returncode == 0

    def check(self, *ends: str, **how: Any) -> Report:
        """What ``kvmdiag check`` says; ``ends`` are source and destination, or none."""
        snapshot = collect(manager.scope(self.label))
        return diagnose(snapshot, load_checks(), resolve(snapshot, *ends, **how) if ends else None)

    def carry_out(self, report: Report) -> None:
        """Run the commands of a repair plan, as they stand there."""
        assert report.plan is not None
        for step in report.plan.steps:
            subprocess.run(shlex.split(step.command), check=True, capture_output=True, timeout=20)


@pytest.fixture(scope="module")
def label() -> Iterator[Callable[[], str]]:
    """A maker of labels; whatever is built under them is removed."""
    given: list[str] = []

    def make() -> str:
        given.append(f"test{os.getpid()}-{next(_numbers)}")
        return given[-1]

    yield make
    for name in given:
        if state.exists(name) or any(Path("/run/netns").glob(f"kvmdiag-{name}-*")):
            manager.down(name)


@pytest.fixture(scope="module")
def build(label: Callable[[], str]) -> Callable[[str], Lab]:
    """A builder of practice networks."""
    return lambda name: Lab(manager.up(name, label=label()))


@pytest.fixture(scope="module")
def cluster(build: Callable[[str], Lab]) -> Lab:
    """A practice network ``cluster`` that the tests of a module share."""
    return build("cluster")


@pytest.fixture
def healthy(cluster: Lab) -> Iterator[Lab]:
    """The shared network; what a test does to it is mended afterwards."""
    yield cluster
    manager.mend(cluster.label)
