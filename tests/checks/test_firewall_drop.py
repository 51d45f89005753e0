"""Rules of the host's own that keep its guests from finding it."""

import pytest

from .build import carry_out, judge, nat_host, pings


@pytest.mark.kernel
@pytest.mark.fires("firewall-drop")
def test_a_host_that_drops_all_icmpv6(namespaces, eventually):
    """Neighbour discovery goes with it: its guests no longer find their router."""
    site = nat_host(namespaces, eventually)
    host, vm1 = site["host"], site["vm1"]
    host.sysctl("net.ipv6.conf.all.forwarding", 1)
    host.ip("addr add fd00:122::1/64 dev virbr0 nodad")
    vm1.ip("addr add fd00:122::11/64 dev eth0 nodad")
    host.run("ip6tables -A INPUT -p icmpv6 --icmpv6-type echo-request -j ACCEPT")
    host.run("ip6tables -A INPUT -p icmpv6 -j DROP")
    assert not pings(vm1, "fd00:122::1")
    report = judge(site.read(), "vm1", "fd00:122::1")
    (cause,) = (f for f in report.findings if f.role == "cause")
    assert cause.check == "firewall-drop"
    assert "neighbour discovery" in cause.summary
    carry_out(report)
    eventually(lambda: pings(vm1, "fd00:122::1"), "the plan does not cure")
