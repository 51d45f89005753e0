"""Each fault of the practice networks with real guests, from the first ping to the last.

The ping from inside fails; ``check`` names the fault as the one cause; without a look inside it
names nothing else; ``fix --yes`` cures what can be cured from outside, and says what to type
where it cannot; then the ping is answered.
"""

from __future__ import annotations

import shlex
import shutil
from typing import NamedTuple

import pytest

from kvmdiag.commands.main import main
from kvmdiag.errors import LabError
from kvmdiag.lab import manager
from kvmdiag.lab.real_networks import REAL_NETWORKS
from kvmdiag.model.report import Report

from .conftest import RealLab

OUTSIDE, GATEWAY = "10.0.0.9", "192.168.122.1"


class Way(NamedTuple):
    """What is expected of a fault.

    ``repair`` is who cures it: ``fix``, somebody inside the ``guest``, or ``None`` when it is
    for people to decide. ``from_outside`` tells whether it is the cause without a look inside,
    ``None`` that the path cannot be named then.
    """

    repair: str | None = "fix"
    from_outside: bool | None = True
    source: str = "web"
    destination: str = OUTSIDE


NAT = {
    "net-restart-orphan-taps": Way(),
    "libvirt-net-inactive": Way(),
    "dnsmasq-dead": Way(from_outside=False),
    "dnsmasq-port-conflict": Way(repair=None),
    "fw-flush-lost-libvirt-rules": Way(),
    "ip-forward-off": Way(),
    "guest-link-state-down": Way(),
    "guest-paused-tap-drops": Way(),
    "duplicate-mac": Way(repair="guest", from_outside=False, destination="192.168.122.88"),
    "nwfilter-wrong-ip": Way(),
}
# Which gateway node1 has is not known without a look inside, nor what becomes of its packets.
BEHIND_MASTER = Way(source="node1", from_outside=False)
INSIDE = BEHIND_MASTER._replace(repair="guest")
CLUSTER = {
    "bridge-nf-forward-drop": BEHIND_MASTER,
    "ip-forward-off@master": INSIDE,
    "ip-forward-off@host": BEHIND_MASTER,
    "per-iface-forwarding-off@host": BEHIND_MASTER,
    "per-iface-forwarding-off@master": INSIDE,
    "masquerade-missing@host": BEHIND_MASTER,
    "masquerade-missing@master": INSIDE,
    "guest-no-default-route@node1": INSIDE,
    "guest-no-default-route@master": INSIDE,
    "guest-rp-filter-multihomed": INSIDE._replace(source="node1:ens3", from_outside=None),
    "net-restart-orphan-taps": BEHIND_MASTER,
    "tap-admin-down": BEHIND_MASTER,
}
NEIGHBOURS = {
    "docker-forward-drop-vs-libvirt-nft": Way(),
    "docker-user-half-fixed": Way(),
    "firewalld-libvirt-zone": Way(),
    "vpn-killswitch-or-full-tunnel": Way(),
}
INSTANCE = Way(source="instance", destination="8.8.8.8", from_outside=False)
DEVSTACK = {
    "masquerade-pinned-to-wrong-egress": INSTANCE,
    "masquerade-missing@host": INSTANCE,
    "ip-forward-off@host": INSTANCE,
    "ip-forward-off@qrouter": INSTANCE,
    "docker-forward-drop-vs-libvirt-nft": INSTANCE,
    "guest-no-default-route": INSTANCE._replace(repair="guest"),
}
NO_PATH = {
    "dns-single-label-resolved",
    "second-nic",
    "second-masquerade",
    "host-input-fw-blocks-dhcp-dns",
}
"""These stop no packet to an address, two are harmless; see the tests of the cluster and of ufw."""
PROGRAMS = {"docker": "dockerd", "firewalld": "firewalld"}


def test_every_fault_has_its_way() -> None:
    """None is left out here."""
    expected = {
        "libvirt-nat": NAT,
        "cluster": CLUSTER,
        "devstack": DEVSTACK,
        "neighbours": NEIGHBOURS,
    }
    for name, ways in expected.items():
        faults = {fault.name for fault in REAL_NETWORKS[name].namespaces.faults}
        assert faults - NO_PATH == set(ways)


@pytest.mark.parametrize("name", CLUSTER)
def test_cluster(cluster: RealLab, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A router that is itself a guest."""
    broken_and_cured(cluster, name, CLUSTER[name], capsys)


@pytest.mark.parametrize("name", DEVSTACK)
def test_devstack(devstack: RealLab, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An instance behind Neutron's router; Docker's chains are there, and no Docker."""
    broken_and_cured(devstack, name, DEVSTACK[name], capsys)


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_neighbours(neighbours: RealLab, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Docker and firewalld are the real ones, running; of the VPN there are the rules alone."""
    needed = PROGRAMS.get(name.partition("-")[0])
    if needed is not None and shutil.which(needed) is None:
        pytest.skip(f"needs {needed}: scripts/bootstrap --real")
    broken_and_cured(neighbours, name, NEIGHBOURS[name], capsys)


@pytest.mark.skipif(shutil.which("ufw") is None, reason="needs ufw: scripts/bootstrap --real")
def test_ufw_lets_no_dns_in(neighbours: RealLab) -> None:
    """Addresses are reached as before, names are not found; the repair opens that port alone."""
    ask = ("web", "/bin/nslookup", "-type=a", "web", GATEWAY)
    assert neighbours.inside(*ask) == 0
    manager.break_(neighbours.label, "host-input-fw-blocks-dhcp-dns")
    assert neighbours.reaches("web", OUTSIDE)
    assert neighbours.inside(*ask) != 0
    for access in ("agent", "none"):
        found = neighbours.causes("web", GATEWAY, "udp", 53, guest_access=access)
        assert found == ["host-input-fw-blocks-dhcp-dns"]
    question = ("web", GATEWAY, "--proto", "udp", "--port", "53")
    assert main(["--lab", neighbours.label, "fix", *question, "--yes"]) == 0
    assert neighbours.inside(*ask) == 0


@pytest.mark.parametrize("name", NAT)
def test_network_default(
    libvirt_nat: RealLab, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One bridge between guests that speak DHCP and the world."""
    broken_and_cured(libvirt_nat, name, NAT[name], capsys)


def broken_and_cured(lab: RealLab, name: str, way: Way, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole story of a fault."""
    check = manager.break_(lab.label, name).check
    assert check is not None
    assert not answered(lab, way), "nothing is broken"

    assert lab.causes(way.source, way.destination) == [check]
    if way.from_outside is not None:
        not_misled(lab.check(way.source, way.destination, guest_access="none"), check, way)

    ends = (way.source, way.destination)
    code = main(["--lab", lab.label, "fix", *ends, "--yes"])
    said = capsys.readouterr()
    if way.repair == "fix":
        assert code == 0, said.out + said.err
        assert "a real packet gets through" in said.out
    else:
        assert code != 0
    if way.repair is None:
        assert f"What helps against {check}" in said.out
        return
    if way.repair == "guest":
        type_inside(lab, lab.check(*ends))
    assert lab.recovers(*ping(way)), "the repair does not help"


def answered(lab: RealLab, way: Way) -> bool:
    """Whether the guest's own ping gets an answer; a guest that stands still gets none."""
    try:
        return lab.reaches(*ping(way))
    except LabError:
        return False


def ping(way: Way) -> tuple[str, ...]:
    """Who pings whom, and by which NIC when it is not the one of the route."""
    guest, _, nic = way.source.partition(":")
    return (guest, way.destination, *(("-I", nic) if nic else ()))


def not_misled(report: Report, check: str, way: Way) -> None:
    """Without a look inside: the same cause, or none; and never that all is well."""
    causes = [found.check for found in report.findings if found.role == "cause"]
    assert causes == ([check] if way.from_outside else [])
    assert report.verdict in (("faulty",) if way.from_outside else ("faulty", "unknown"))


def type_inside(lab: RealLab, report: Report) -> None:
    """What the plan says is to be typed inside a guest, typed there."""
    assert report.plan is not None
    for step in report.plan.steps:
        assert step.where.startswith("inside ")
        guest = step.where.removeprefix("inside ")
        words = shlex.split(step.command)
        assert lab.inside(guest, "/bin/env", *words) == 0
