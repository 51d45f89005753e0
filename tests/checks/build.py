"""Small hosts for the tests of checks: in namespaces, or as facts alone."""

from __future__ import annotations

import dataclasses
import shlex
import subprocess
from collections.abc import Callable, Iterable

import pytest
from _pytest.mark import ParameterSet

from kvmdiag.collect.scope import Scope
from kvmdiag.collect.snapshot import collect
from kvmdiag.diagnose.check import load_checks
from kvmdiag.diagnose.engine import diagnose
from kvmdiag.model.report import Finding, Report
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.simulate.endpoints import resolve

CHECKS = load_checks()


def proved(checks: Iterable[str], *, silent: bool = True) -> list[ParameterSet]:
    """Parameters of a test that shows each of these checks fire, and stay silent on its trap."""
    found = []
    for check in checks:
        marks = [pytest.mark.fires(check)]
        marks += [pytest.mark.silent(check)] if silent else []
        found.append(pytest.param(check, id=check, marks=marks))
    return found


@dataclasses.dataclass
class Site:
    """A host with guests, in namespaces. ``hidden`` namespaces are beyond its uplinks."""

    host: object
    machines: dict[str, object]
    hidden: tuple[str, ...]

    def read(self) -> Snapshot:
        """All facts, under plain names."""
        names = {ns.path: name for name, ns in self.machines.items() if name not in self.hidden}
        exclude = tuple(self.machines[name].name for name in self.hidden)
        return collect(Scope(host=self.host.path, names=names, exclude=exclude, libvirt=False))

    def __getitem__(self, name: str):
        return self.machines[name]


def nat_host(namespaces: Callable, eventually: Callable, *, rules: bool = True) -> Site:
    """A host with a NAT bridge virbr0 (vm1, vm2), an uplink eth0, and a machine outside.

    ::

        vm1 eth0 -- vnet1 virbr0 vnet2 -- eth0 vm2      host eth0 -- lan outside
    """
    host, out = namespaces("host"), namespaces("out")
    vms = {name: namespaces(name) for name in ("vm1", "vm2")}
    host.cable("eth0", out, "lan")
    host.ip(
        "link set lo up",
        "link add virbr0 address 52:54:00:00:00:01 type bridge",
        "addr add 192.168.122.1/24 dev virbr0",
        "link set virbr0 up",
        "addr add 10.0.0.10/24 dev eth0",
        "link set eth0 up",
    )
    out.ip("addr add 10.0.0.1/24 dev lan", "addr add 10.0.0.9/24 dev lan", "link set lan up")
    for number, (name, vm) in enumerate(vms.items(), 1):
        host.cable(f"vnet{number}", vm, "eth0")
        host.ip(f"link set vnet{number} master virbr0 up")
        vm.ip(
            "link set lo up",
            f"link set eth0 address 52:54:00:00:01:0{number}",
            f"addr add 192.168.122.1{number}/24 dev eth0",
            "link set eth0 up",
            "route add default via 192.168.122.1",
        )
        del name
    host.ip("route add default via 10.0.0.1")
    host.sysctl("net.ipv4.ip_forward", 1)
    for vm in (host, *vms.values()):
        for key in ("all", "default"):
            vm.sysctl(f"net.ipv4.conf.{key}.rp_filter", 0)
    if rules:
        host.run(
            "iptables -t nat -A POSTROUTING -s 192.168.122.0/24 ! -d 192.168.122.0/24 -j MASQUERADE"
        )

    def is_quiet() -> bool:
        shown = [ns.run("ip -d link show").stdout for ns in (host, *vms.values())]
        return not any(w in t for w in ("LOWERLAYERDOWN", "state disabled") for t in shown)

    eventually(is_quiet, "the links never came up")
    return Site(host, {"host": host, "outside": out, **vms}, ("outside",))


def judge(
    snapshot: Snapshot,
    source: str | None = None,
    destination: str | None = None,
    proto: str = "icmp",
    port: int | None = None,
) -> Report:
    """The report on a path, or on all that are meant to work."""
    if source is None or destination is None:
        return diagnose(snapshot, CHECKS)
    return diagnose(
        snapshot, CHECKS, resolve(snapshot, source, destination, proto=proto, port=port)
    )


def found(report: Report, check: str) -> list[Finding]:
    """The findings of one check."""
    return [finding for finding in report.findings if finding.check == check]


def carry_out(report: Report) -> None:
    """Run the plan's commands as a person would paste them."""
    for step in report.plan.steps:
        subprocess.run(shlex.split(step.command), check=True, capture_output=True, timeout=20)


def pings(machine, address: str) -> bool:
    """Whether the kernel gets an answer."""
    return machine.run(f"ping -c1 -W1 {address}", check=False).returncode == 0
