"""The practice network ``devstack``: floating addresses, two uplinks, Docker beside."""

import pytest

from kvmdiag.lab import manager
from kvmdiag.lab.networks import networks

pytestmark = pytest.mark.kernel

OUTSIDE = "8.8.8.8"
FAULTS = [fault for fault in networks()["devstack"].faults if not fault.harmless]
SUBJECTS = {
    "masquerade-pinned-to-wrong-egress": "host/eno2",
    "masquerade-missing@host": "host/eno1",
    "ip-forward-off@host": "host",
    "ip-forward-off@qrouter": "qrouter",
    "docker-forward-drop-vs-libvirt-nft": "host/br-ex",
    "guest-no-default-route": "instance",
}


@pytest.fixture(scope="module")
def devstack(build):
    """One for all tests of this module."""
    return build("devstack")


@pytest.fixture
def mended(devstack):
    """What a test does to it is undone afterwards."""
    yield devstack
    manager.mend(devstack.label)


def test_healthy(devstack):
    """The instance gets out, and by its floating address the host gets in."""
    assert devstack.reaches(OUTSIDE, machine="instance")
    assert devstack.reaches("192.168.42.20", machine="host")
    assert not devstack.reaches("192.168.42.20", machine="outside", wait="0.3")
    report = devstack.check()
    assert (report.verdict, report.findings) == ("healthy", ())


def test_the_address_at_each_place(devstack):
    """Neutron's router gives the floating address, the host that of its uplink."""
    walk = devstack.check("instance", OUTSIDE).walk
    assert walk.works
    at = {str(hop.place): str(hop.packet.src) for hop in walk.request.hops}
    assert at["instance/ens3"] == "10.1.0.12"
    assert at["host/br-ex"] == "192.168.42.20"
    assert at["host/eno1"] == "192.168.20.132"
    walk = devstack.check("host", "192.168.42.20").walk
    assert walk.works
    assert walk.request.end.stack == "instance"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_named_and_cured(fault, mended):
    """The ping fails, the check names the cause first, and the plan's commands cure it."""
    manager.break_(mended.label, fault.name)
    assert not mended.reaches(OUTSIDE, machine="instance", wait="0.3")
    report = mended.check("instance", OUTSIDE)
    assert report.verdict == "faulty"
    first = report.findings[0]
    assert (first.check, first.role, first.subject, first.verified) == (
        fault.check,
        "cause",
        SUBJECTS[fault.name],
        True,
    )
    mended.carry_out(report)
    assert mended.recovers(OUTSIDE, machine="instance")


def test_a_rule_for_each_uplink_does_no_harm(mended):
    """Whichever way the default route points, one of the two translates."""
    manager.break_(mended.label, "second-masquerade")
    report = mended.check()
    assert (report.verdict, report.findings) == ("healthy", ())
    manager.break_(mended.label, "masquerade-pinned-to-wrong-egress")
    assert mended.reaches(OUTSIDE, machine="instance")
    report = mended.check("instance", OUTSIDE)
    assert (report.verdict, report.findings) == ("healthy", ())
