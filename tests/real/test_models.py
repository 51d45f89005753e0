"""The models of a network on a real libvirt, each with a guest: what is meant and what is not."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kvmdiag.commands.main import main
from kvmdiag.lab import manager
from kvmdiag.lab.spec import namespace

from .conftest import RealLab

OUTSIDE, STRANGER, WEB = "10.0.0.9", "10.0.0.8", "192.168.122.2"
CONNECT = "import socket; socket.create_connection(('10.0.0.10', 8080), 2).close()"


def outside(lab: RealLab, *command: str) -> bool:
    """Whether a program succeeds that is run on the router outside."""
    full = ("ip", "netns", "exec", namespace(lab.label, "outside"), *command)
    return subprocess.run(full, check=False, capture_output=True, timeout=20).returncode == 0


def connects(lab: RealLab) -> bool:
    """Whether somebody outside gets a connection to the forwarded port."""
    return outside(lab, sys.executable, "-c", CONNECT)


def test_each_model_does_what_it_is_for(models: RealLab) -> None:
    """What works in truth is healthy in the report, and the modes are read as they are meant."""
    for guest in ("routed", "web", "opened", "lan"):
        assert models.reaches(guest, OUTSIDE), guest
        assert models.check(guest, OUTSIDE).verdict in ("healthy", "unknown"), guest
    for address in ("10.10.101.2", "10.10.102.2", "10.0.0.50"):
        assert outside(models, "ping", "-c1", "-W2", address), address
    modes = {network.name: network.mode for network in models.snapshot().networks or ()}
    assert modes == {"default": "nat", "isolated": None, "routed": "route", "open": "open"}


@pytest.mark.parametrize("access", ["agent", "none"])
def test_what_is_meant_to_be_so_is_no_fault(models: RealLab, access: str) -> None:
    """An isolated guest gets nowhere, and nobody outside gets at a translated one."""
    assert not models.reaches("iso", OUTSIDE)
    assert not outside(models, "ping", "-c1", "-W1", WEB)
    for source, destination in (("iso", OUTSIDE), (OUTSIDE, WEB)):
        report = models.check(source, destination, guest_access=access)
        assert [found for found in report.findings if found.role == "cause"] == []
        assert report.plan is None


@pytest.mark.parametrize(
    ("fault", "guest"),
    [
        ("masquerade-missing", "web"),
        ("ip-forward-off", "routed"),
        ("bridge-uplink-missing", "lan"),
    ],
)
def test_a_fault_is_named_and_cured(models: RealLab, fault: str, guest: str) -> None:
    """By fix, and the ping from inside proves it."""
    manager.break_(models.label, fault)
    assert not models.reaches(guest, OUTSIDE)
    assert models.causes(guest, OUTSIDE)[0] == fault
    assert main(["--lab", models.label, "fix", guest, OUTSIDE, "--yes"]) == 0
    assert models.recovers(guest, OUTSIDE)


@pytest.mark.parametrize("fault", ["dnat-blocked-by-libvirt-reject", "accept-rule-after-reject"])
def test_a_forwarded_port_that_libvirt_swallows(models: RealLab, fault: str) -> None:
    """Without a rule that lets it in; and with one among libvirt's own, once it has restarted."""
    manager.break_(models.label, fault)
    assert not connects(models)
    for access in ("agent", "none"):
        assert models.causes(OUTSIDE, "10.0.0.10", "tcp", 8080, guest_access=access) == [fault]
    question = (OUTSIDE, "10.0.0.10", "--proto", "tcp", "--port", "8080")
    assert main(["--lab", models.label, "fix", *question, "--yes"]) == 0
    assert connects(models)


def test_a_forwarded_port_outlives_a_restart_of_libvirtd(models: RealLab) -> None:
    """A rule in front of libvirt's chains stays there: it leaves the jumps where they are."""
    manager.break_(models.label, "libvirtd-restarted")
    assert connects(models)
    for access in ("agent", "none"):
        report = models.check(OUTSIDE, "10.0.0.10", "tcp", 8080, guest_access=access)
        assert report.verdict != "faulty"
        assert report.plan is None


def test_a_route_back_that_is_missing_outside_is_only_suspected(models: RealLab) -> None:
    """What is beyond the uplink cannot be read; a stranger lacks that route from the start."""
    manager.break_(models.label, "routed-net-no-return-route")
    for address in (OUTSIDE, STRANGER):
        assert not models.reaches("routed", address)
        report = models.check("routed", address)
        assert report.verdict == "unknown"
        said = [(found.check, found.role) for found in report.findings]
        assert said == [("routed-net-no-return-route", "context")]
        assert report.plan is None


def test_a_routed_network_turned_into_nat_by_hand_is_fine(models: RealLab) -> None:
    """Then even a stranger answers."""
    manager.break_(models.label, "routed-turned-into-nat")
    assert models.reaches("routed", STRANGER)
    report = models.check("routed", STRANGER)
    assert (report.verdict, report.plan) == ("healthy", None)
