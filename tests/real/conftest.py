"""Practice networks of virtual machines that really boot, for tests that ask for them.

They run with ``scripts/test --real`` (``pytest -m real``) alone: booting takes its time.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kvmdiag.collect.snapshot import collect
from kvmdiag.diagnose.check import load_checks
from kvmdiag.diagnose.engine import diagnose
from kvmdiag.lab import manager, real, state
from kvmdiag.lab.real_networks import REAL_NETWORKS
from kvmdiag.model.packet import Protocol
from kvmdiag.model.report import Report
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.simulate.endpoints import resolve
from kvmdiag.simulate.facts.unseen import assume_guests

_HERE = Path(__file__).parent
_NEEDED = ("libvirtd", "qemu-system-x86_64", "busybox", "dnsmasq", "virsh")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what is in this folder, and leave it out unless it is asked for.

    What needs the same network stands together, so that each is built once.
    """
    mine = [item for item in items if _HERE in item.path.parents]
    others = [item for item in items if item not in mine]
    for item in mine:
        item.add_marker(pytest.mark.real)
    if "real" in config.getoption("markexpr"):
        items[:] = others + sorted(mine, key=_network_of)
    else:
        config.hook.pytest_deselected(items=mine)
        items[:] = others


def _network_of(item: pytest.Item) -> str:
    """The practice network that a test needs; nothing for one that needs none."""
    asked = set(getattr(item, "fixturenames", ()))
    return next((name for name in REAL_NETWORKS if name.replace("-", "_") in asked), "")


class RealLab:
    """A practice network with real guests that stands."""

    def __init__(self, label: str) -> None:
        self.label = label

    def inside(self, guest: str, *argv: str) -> int:
        """Run a program inside a guest; its exit code."""
        return real.run_inside(self.label, guest, *argv)

    def reaches(self, guest: str, address: str, *options: str) -> bool:
        """Whether one real ping from inside a guest is answered."""
        return self.inside(guest, "/bin/ping", "-c1", "-W2", *options, address) == 0

    def recovers(self, guest: str, address: str, *options: str) -> bool:
        """Whether a ping is answered before long, once a fault is gone.

        A question for the neighbour that nobody could answer fails up to three seconds after it
        was asked, and takes with it what was sent meanwhile.
        """
        end = time.monotonic() + 30
        while not self.reaches(guest, address, *options):
            if time.monotonic() > end:
                return False
        return True

    def content(self, guest: str, path: str) -> str:
        """A file of a guest."""
        handle = real.agent(self.label, guest, "guest-file-open", path=path, mode="r")
        told = real.agent(self.label, guest, "guest-file-read", handle=handle, count=1 << 20)
        real.agent(self.label, guest, "guest-file-close", handle=handle)
        return str(told["buf-b64"])

    def snapshot(self, **scope: str) -> Snapshot:
        """What is read of it."""
        return collect(replace(manager.scope(self.label), **scope))

    def check(
        self,
        source: str,
        destination: str,
        proto: Protocol = "icmp",
        port: int | None = None,
        **scope: str,
    ) -> Report:
        """What ``kvmdiag check`` finds."""
        facts = assume_guests(self.snapshot(**scope))
        asked = resolve(facts, source, destination, proto=proto, port=port)
        return diagnose(facts, load_checks(), asked)

    def causes(
        self,
        source: str,
        destination: str,
        proto: Protocol = "icmp",
        port: int | None = None,
        **scope: str,
    ) -> list[str]:
        """The checks that name a cause."""
        report = self.check(source, destination, proto, port, **scope)
        return [found.check for found in report.findings if found.role == "cause"]


class Labs:
    """One practice network at a time: emulated guests need both processors."""

    def __init__(self) -> None:
        self.label = f"real{os.getpid()}"
        self._name: str | None = None

    def get(self, name: str) -> RealLab:
        """The network of that name, sound: built if another stands, mended if it is broken."""
        missing = [program for program in _NEEDED if shutil.which(program) is None]
        if missing:
            pytest.skip(f"needs {', '.join(missing)}: scripts/bootstrap --real")
        if os.geteuid() != 0:
            pytest.skip("needs root to run virtual machines in a namespace of their own")
        if self._name != name:
            self.remove()
            manager.up(name, label=self.label, real_guests=True)
            self._name = name
        elif self._is_broken():
            manager.mend(self.label)
        return RealLab(self.label)

    def _is_broken(self) -> bool:
        known = state.read(self.label)
        return known is not None and bool(known.faults)

    def remove(self) -> None:
        """Take away what stands."""
        self._name = None
        if state.exists(self.label):
            manager.down(self.label)


@pytest.fixture(scope="session")
def labs() -> Iterator[Labs]:
    """Whichever network stands; none remains."""
    made = Labs()
    try:
        yield made
    finally:
        made.remove()


def _standing(name: str, what: str) -> Callable[[Labs], RealLab]:
    """A fixture: the practice network of that name, sound."""

    def network(labs: Labs) -> RealLab:
        return labs.get(name)

    network.__doc__ = what
    return pytest.fixture(network)


libvirt_nat = _standing("libvirt-nat", "Network default with the guests web and db.")
cluster = _standing("cluster", "The cluster whose router master is itself a guest.")
neighbours = _standing("neighbours", "A guest on network default, beside programs with rules too.")
models = _standing("models", "Isolated, routed, NAT, open and bridged networks.")
devstack = _standing("devstack", "An instance behind Neutron's router and two uplinks.")
kubevirt = _standing("kubevirt", "A machine of KubeVirt's in its pod on a node with Calico.")
