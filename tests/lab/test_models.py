"""The practice network ``models``: isolated, routed, NAT and bridged side by side."""

import subprocess
import sys

import pytest

from kvmdiag.collect.snapshot import collect
from kvmdiag.commands.main import main
from kvmdiag.lab import manager
from kvmdiag.lab.spec import namespace

pytestmark = pytest.mark.kernel

OUTSIDE = "10.0.0.9"
# Fault, who asks, and what is to blame.
FAULTS = [
    ("masquerade-missing", "web", "host/br0"),
    ("ip-forward-off", "web", "host"),
    ("ip-forward-off", "routed", "host"),
    ("bridge-uplink-missing", "lan", "host/br0"),
]
SERVER = """
import socket
server = socket.create_server(("0.0.0.0", 80))
print("listening", flush=True)
while True:
    server.accept()[0].close()
"""


@pytest.fixture(scope="module")
def models(build):
    """One for all tests of this module."""
    return build("models")


@pytest.fixture
def mended(models):
    """What a test does to it is undone afterwards."""
    yield models
    manager.mend(models.label)


@pytest.fixture
def web(mended):
    """The network with a server that listens in the guest ``web``."""
    inside = ["ip", "netns", "exec", namespace(mended.label, "web"), sys.executable, "-c", SERVER]
    with subprocess.Popen(inside, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout.readline() == "listening\n"
            yield mended
        finally:
            server.terminate()


def test_healthy(models):
    """Each model does what it is for, and nothing is found fault with."""
    for machine, destination in (
        ("iso1", "192.168.100.12"),
        ("routed", OUTSIDE),
        ("web", OUTSIDE),
        ("web", "10.0.0.8"),
        ("lan", OUTSIDE),
        ("outside", "10.10.101.2"),
    ):
        assert models.reaches(destination, machine=machine), f"{machine} to {destination}"
    assert not models.reaches("192.168.122.2", machine="outside", wait="0.3")
    report = models.check()
    assert (report.verdict, report.findings) == ("healthy", ())


def test_libvirts_files_tell_what_was_meant(models):
    """Three networks and their modes; that no daemon runs is as it should be."""
    snapshot = collect(manager.scope(models.label))
    assert {network.bridge: network.mode for network in snapshot.networks} == {
        "virbr0": "nat",
        "virbr1": None,
        "virbr2": "route",
    }
    assert all(network.active for network in snapshot.networks)
    (gap,) = [gap for gap in snapshot.gaps if gap.fact == "libvirt"]
    assert gap.expected


@pytest.mark.parametrize(("fault", "guest", "subject"), FAULTS)
def test_a_fault_is_named_and_cured(fault, guest, subject, mended):
    """The ping fails, the check names the cause first, and the plan's commands cure it."""
    manager.break_(mended.label, fault)
    assert not mended.reaches(OUTSIDE, machine=guest, wait="0.3")
    report = mended.check(guest, OUTSIDE)
    assert report.verdict == "faulty"
    first = report.findings[0]
    assert (first.check, first.role, first.subject) == (fault, "cause", subject)
    if fault == "bridge-uplink-missing":
        assert "interfaces: [eno1]" in report.plan.steps[0].persist
    mended.carry_out(report)
    assert mended.recovers(OUTSIDE, machine=guest)


@pytest.mark.parametrize("fault", ["dnat-blocked-by-libvirt-reject", "accept-rule-after-reject"])
def test_a_forwarded_port_is_swallowed(fault, web):
    """Without an accept rule, or with one behind libvirt's: named, and cured by one in front."""
    ask = {"proto": "tcp", "port": 8080}
    assert web.connects("outside", "10.0.0.10", 8080)
    assert web.check(OUTSIDE, "10.0.0.10", **ask).verdict == "healthy"
    manager.break_(web.label, fault)
    assert not web.connects("outside", "10.0.0.10", 8080)
    report = web.check(OUTSIDE, "10.0.0.10", **ask)
    found = [(f.check, f.role, f.verified) for f in report.findings]
    assert found[0] == (fault, "cause", True)
    web.carry_out(report)
    assert web.connects("outside", "10.0.0.10", 8080)


def test_fix_for_somebody_outside(web, capsys, monkeypatch, tmp_path):
    """No packet can be sent from there: the fresh walk decides, and it says so."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    manager.break_(web.label, "dnat-blocked-by-libvirt-reject")
    ends = (OUTSIDE, "10.0.0.10", "--proto", "tcp", "--port", "8080")
    assert main(["fix", "--lab", web.label, *ends, "--yes"]) == 0
    out = capsys.readouterr().out
    assert "The simulation now says that 10.0.0.9 reaches 10.0.0.10; no packet could be sent" in out
    assert "Cured" not in out
    assert web.connects("outside", "10.0.0.10", 8080)


def test_a_route_back_that_is_missing_outside_is_only_suspected(mended):
    """What lies beyond the uplink cannot be read: with the route and without, it is unknown."""
    assert not mended.reaches("10.0.0.8", machine="routed", wait="0.3")
    before = mended.check("routed", OUTSIDE)
    manager.break_(mended.label, "routed-net-no-return-route")
    assert not mended.reaches(OUTSIDE, machine="routed", wait="0.3")
    for report in (before, mended.check("routed", OUTSIDE)):
        assert report.verdict == "unknown"
        found = [(f.check, f.role, f.verified) for f in report.findings]
        assert found == [("routed-net-no-return-route", "context", None)]
        assert report.plan is None


def test_a_routed_network_turned_into_nat_by_hand_is_fine(mended):
    """Then the route back is not needed."""
    manager.break_(mended.label, "routed-turned-into-nat")
    assert mended.reaches("10.0.0.8", machine="routed")
    report = mended.check("routed", "10.0.0.8")
    assert (report.verdict, report.findings) == ("healthy", ())


@pytest.mark.parametrize(
    ("source", "destination", "check"),
    [
        ("iso1", OUTSIDE, "isolated-no-gateway"),
        (OUTSIDE, "192.168.122.2", "nat-inbound-by-design"),
    ],
)
def test_what_is_so_by_design_is_no_fault_to_repair(source, destination, check, models):
    """It fails, it is told why, and there is no plan."""
    report = models.check(source, destination)
    assert report.walk.works is False
    assert (report.findings[0].check, report.findings[0].role) == (check, "context")
    assert not any(finding.role == "cause" for finding in report.findings)
    assert report.plan is None
