"""The practice cluster, read once; every variant is made from that snapshot without the kernel."""

import os
from collections.abc import Callable, Iterator

import msgspec
import pytest

from kvmdiag.collect.snapshot import collect
from kvmdiag.diagnose.check import load_checks
from kvmdiag.diagnose.engine import diagnose
from kvmdiag.lab import manager
from kvmdiag.model.report import Report
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.simulate.endpoints import resolve

CHECKS = load_checks()


@pytest.fixture(scope="session")
def broken() -> Iterator[Callable[..., Snapshot]]:
    """The cluster as the kernel shows it with these faults; each set is read only once."""
    label = f"checks{os.getpid()}"
    read: dict[tuple[str, ...], Snapshot] = {}
    manager.up("cluster", label=label)
    try:

        def snapshot(*faults: str) -> Snapshot:
            if faults not in read:
                for fault in faults:
                    manager.break_(label, fault)
                read[faults] = collect(manager.scope(label))
                if faults:
                    manager.mend(label)
            return read[faults]

        yield snapshot
    finally:
        manager.down(label)


@pytest.fixture(scope="session")
def ask() -> Callable[..., Report]:
    """Judge a path; by default the article's, from node1 to the machine outside."""

    def judge(snapshot: Snapshot, source: str = "node1", destination: str = "10.0.0.9") -> Report:
        return diagnose(snapshot, CHECKS, resolve(snapshot, source, destination))

    return judge


@pytest.fixture(scope="session")
def patched() -> Callable[..., Snapshot]:
    """A snapshot in which fields of one stack are replaced."""

    def replace(snapshot: Snapshot, stack: str, **fields: object) -> Snapshot:
        return snapshot.with_stack(msgspec.structs.replace(snapshot.stack(stack), **fields))

    return replace
