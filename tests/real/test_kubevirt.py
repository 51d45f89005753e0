"""A real virtual machine in a pod: known by its QEMU alone, since no libvirt of the node has it."""

from __future__ import annotations

import json

import pytest

from kvmdiag.commands.main import main
from kvmdiag.lab import manager
from kvmdiag.lab.real_networks import REAL_NETWORKS

from .conftest import RealLab

OUTSIDE = "153.3.238.102"
CALI = "cali12d4a061371"
# By which links the packet goes, and which source it has there.
WAY = [
    ("launcher/tap0", "10.0.2.2"),
    ("launcher/k6t-eth0", "10.0.2.2"),
    ("launcher/eth0", "10.233.70.50"),
    (f"host/{CALI}", "10.233.70.50"),
    ("host/ens192", "10.7.120.1"),
]
FAULTS = [
    fault
    for fault in REAL_NETWORKS["kubevirt"].namespaces.faults
    if not fault.harmless and fault.machine != "guest"
]


def test_the_way_out_is_seen_with_the_address_at_each_link(
    kubevirt: RealLab, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the tap in the pod to the node's uplink, for real; the guest's own ping agrees."""
    assert kubevirt.reaches("guest", OUTSIDE)
    assert kubevirt.check("guest", OUTSIDE).verdict == "healthy"
    question = ("guest", OUTSIDE, "--format", "json")
    assert main(["--lab", kubevirt.label, "trace", *question]) == 0
    trace = json.loads(capsys.readouterr().out)
    seen = [hop for hop in trace["hops"] if hop["seen"] and hop["direction"] == "request"]
    way = [(f"{hop['stack']}/{hop['link']}", hop["packet"]["src"]) for hop in seen]
    assert list(dict.fromkeys(way)) == WAY


def test_what_is_taken_for_granted_is_said(kubevirt: RealLab) -> None:
    """Nobody looks into this guest: that its route is gone is neither found nor denied."""
    manager.break_(kubevirt.label, "guest-no-default-route")
    assert not kubevirt.reaches("guest", OUTSIDE)
    report = kubevirt.check("guest", OUTSIDE)
    assert [found for found in report.findings if found.role == "cause"] == []
    assert report.walk is not None
    assert any("could not be looked into" in said for said in report.walk.request.assumptions)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_named_and_cured(kubevirt: RealLab, fault) -> None:
    """In the pod and on the node; the guest's own ping proves the cure."""
    manager.break_(kubevirt.label, fault.name)
    assert not kubevirt.reaches("guest", OUTSIDE)
    assert kubevirt.causes("guest", OUTSIDE) == [fault.check]
    assert main(["--lab", kubevirt.label, "fix", "guest", OUTSIDE, "--yes"]) == 0
    assert kubevirt.recovers("guest", OUTSIDE)
