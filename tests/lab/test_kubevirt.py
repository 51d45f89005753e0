"""The practice network ``kubevirt``: a machine behind its pod and a node with Calico."""

import shutil

import pytest

from kvmdiag.lab import manager
from kvmdiag.lab.networks import networks

pytestmark = pytest.mark.kernel

OUTSIDE = "153.3.238.102"
CALI = "cali12d4a061371"
FAULTS = [fault for fault in networks()["kubevirt"].faults if not fault.harmless]
SUBJECTS = {
    "kubevirt-launcher-nat-missing": "launcher",
    "ip-forward-off@launcher": "launcher",
    "ip-forward-off@host": "host",
    "calico-natoutgoing-off": "host/ens192",
    "tap-admin-down": "launcher/tap0",
    "guest-no-default-route": "guest",
}
# By which links the packet goes, and which source it has there.
WAY = [
    ("guest/eth0", "10.0.2.2"),
    ("launcher/tap0", "10.0.2.2"),
    ("launcher/k6t-eth0", "10.0.2.2"),
    ("launcher/eth0", "10.233.70.50"),
    (f"host/{CALI}", "10.233.70.50"),
    ("host/ens192", "10.7.120.1"),
]


@pytest.fixture(scope="module")
def kubevirt(build):
    """One for all tests of this module."""
    return build("kubevirt")


@pytest.fixture
def mended(kubevirt):
    """What a test does to it is undone afterwards."""
    yield kubevirt
    manager.mend(kubevirt.label)


def test_healthy(kubevirt):
    """The guest gets out, the node reaches the pod and thereby the guest."""
    assert kubevirt.reaches(OUTSIDE, machine="guest")
    assert kubevirt.reaches("10.233.70.50", machine="host")
    report = kubevirt.check()
    assert (report.verdict, report.findings) == ("healthy", ())
    assert kubevirt.check("host", "10.233.70.50").walk.request.end.stack == "guest"


def test_links_are_as_in_a_pod(kubevirt):
    """MTU, MAC address and the address that is all alone."""
    pod = kubevirt.run("launcher", "ip", "address").stdout
    assert "inet 10.233.70.50/32 scope global eth0" in pod
    assert pod.count("mtu 1480") == 3
    assert "link/ether 02:00:00:00:00:00" in pod
    assert "KUBEVIRT_PREINBOUND" in kubevirt.run("launcher", "nft", "list", "ruleset").stdout


@pytest.mark.skipif(shutil.which("ipset") is None, reason="needs ipset")
def test_calicos_pools_are_ipsets(kubevirt):
    """The rule that translates asks two of them."""
    assert "match-set cali40masq" in kubevirt.run("host", "iptables-nft-save").stdout
    assert "10.233.64.0/18" in kubevirt.run("host", "ipset", "save").stdout


def test_without_ipsets_a_plain_rule_stands_in(build, monkeypatch):
    """A system that has no ipset gets the network all the same."""
    monkeypatch.setattr("kvmdiag.lab.builder.has_ipsets", lambda: False)
    plain = build("kubevirt")
    assert plain.reaches(OUTSIDE, machine="guest")
    assert "match-set" not in plain.run("host", "iptables-nft-save").stdout
    manager.down(plain.label)


def test_the_way_is_seen_for_real(kubevirt):
    """A probe from the guest is seen at each link with the address it has there."""
    from kvmdiag.collect.snapshot import collect
    from kvmdiag.probes.trace import fuse, observe
    from kvmdiag.simulate.endpoints import resolve
    from kvmdiag.simulate.walk import walk

    snapshot = collect(manager.scope(kubevirt.label))
    expected = walk(snapshot, resolve(snapshot, "guest", OUTSIDE))
    seen = fuse(expected, observe(snapshot, expected, timeout=2.0))
    way = [(str(hop.place), str(hop.packet.src)) for hop in seen.request.hops if hop.seen]
    assert list(dict.fromkeys(way)) == WAY
    assert any(hop.seen and hop.stack == "guest" for hop in seen.reply.hops)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_named_and_cured(fault, mended):
    """The ping fails, the check names the cause first, and the plan's commands cure it."""
    manager.break_(mended.label, fault.name)
    assert not mended.reaches(OUTSIDE, machine="guest", wait="0.3")
    report = mended.check("guest", OUTSIDE)
    assert report.verdict == "faulty"
    found = [(f.check, f.role, f.subject, f.verified) for f in report.findings]
    assert found == [(fault.check, "cause", SUBJECTS[fault.name], True)]
    mended.carry_out(report)
    assert mended.recovers(OUTSIDE, machine="guest")


def test_a_policy_of_drop_does_no_harm(mended):
    """Calico accepts what its policies have marked before the chain's policy is asked."""
    manager.break_(mended.label, "kubernetes-forward-drop")
    assert mended.reaches(OUTSIDE, machine="guest")
    report = mended.check()
    assert (report.verdict, report.findings) == ("healthy", ())


@pytest.mark.parametrize("source", ["host", "guest"])
def test_the_address_of_a_pod_that_is_no_more(source, kubevirt):
    """Calico's blackhole for the block is no fault: nothing tells to delete it."""
    assert not kubevirt.reaches("10.233.70.51", machine=source, wait="0.3")
    report = kubevirt.check(source, "10.233.70.51")
    assert report.walk.works is False
    found = [(f.check, f.role) for f in report.findings]
    assert found == [("kubevirt-pod-ip-changed", "context")]
    assert report.plan is None
