"""Practice networks for tests: under labels of their own, and gone afterwards."""

import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvmdiag.lab import manager, state
from kvmdiag.lab.spec import namespace

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
def cluster(label: Callable[[], str]) -> Lab:
    """A practice network ``cluster`` that the tests of a module share."""
    return Lab(manager.up("cluster", label=label()))


@pytest.fixture
def healthy(cluster: Lab) -> Iterator[Lab]:
    """The shared network; what a test does to it is mended afterwards."""
    yield cluster
    manager.mend(cluster.label)
