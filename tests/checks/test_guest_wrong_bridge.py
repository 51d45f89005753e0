"""A guest's cable in a bridge that is not its own."""

import pytest

from .build import carry_out, judge, nat_host, pings


@pytest.mark.kernel
@pytest.mark.fires("guest-wrong-bridge")
def test_a_bridge_that_leads_nowhere(namespaces, eventually):
    """It has no address and no other port; that the guest is somebody's is told by virbr0."""
    site = nat_host(namespaces, eventually)
    host, vm1 = site["host"], site["vm1"]
    host.ip("link add br9 type bridge", "link set br9 up", "link set vnet1 master br9")
    assert not pings(vm1, "10.0.0.9")
    report = judge(site.read(), "vm1", "10.0.0.9")
    assert [f.check for f in report.findings if f.role == "cause"] == ["guest-wrong-bridge"]
    carry_out(report)
    eventually(lambda: pings(vm1, "10.0.0.9"), "the plan does not cure")
