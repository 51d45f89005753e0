"""A macvlan that no guest has is not held against a path of the host's."""

import pytest

from .build import found, judge, nat_host


@pytest.mark.kernel
def test_a_macvlan_without_a_guest_isolates_nobody(namespaces, eventually):
    """The host's own way out fails by a rule; its spare macvlan has no part in that."""
    site = nat_host(namespaces, eventually)
    made = site["host"].run("ip link add mv0 link eth0 type macvlan mode bridge", check=False)
    if made.returncode != 0:
        pytest.skip("this kernel has no macvlan")
    site["host"].run("iptables -A OUTPUT -d 10.0.0.9 -j DROP")
    report = judge(site.read(), "host", "10.0.0.9")
    assert report.verdict == "faulty"
    assert found(report, "macvtap-host-guest-isolated") == []
