"""A source that a router lets out untranslated, and who is to blame when it is refused."""

import pytest

from .build import judge, nat_host, pings


@pytest.mark.kernel
@pytest.mark.silent("masquerade-missing")
def test_whom_a_guest_lets_in_is_its_own_business(namespaces, eventually):
    """Its rules accept its own network alone: translating everybody else would lead around them."""
    site = nat_host(namespaces, eventually)
    host, vm1, vm2 = site["host"], site["vm1"], site["vm2"]
    host.run("ip link add br5 type bridge")
    host.run("ip link set br5 address 52:54:00:00:05:01 up")
    host.run("ip addr add 10.5.0.1/24 dev br5")
    host.run("ip link set vnet2 master br5")
    vm2.run("ip addr flush dev eth0")
    vm2.run("ip addr add 10.5.0.2/24 dev eth0")
    vm2.run("ip route add default via 10.5.0.1")
    eventually(lambda: pings(vm2, "192.168.122.11"), "the two networks are not connected")
    vm1.run("iptables -A INPUT ! -s 192.168.122.0/24 -j DROP")
    report = judge(site.read(), "vm2", "192.168.122.11")
    assert [f.check for f in report.findings if f.role == "cause"] == ["guest-firewall"]


@pytest.mark.kernel
@pytest.mark.silent("masquerade-missing")
def test_ipv6_is_routed_where_nobody_translates_it(namespaces, eventually):
    """The router beyond knows the way back here; whether one does cannot be read."""
    site = nat_host(namespaces, eventually)
    host, vm1, out = site["host"], site["vm1"], site["outside"]
    host.sysctl("net.ipv6.conf.all.forwarding", 1)
    host.ip("addr add fd00:122::1/64 dev virbr0 nodad", "addr add fd00:10::10/64 dev eth0 nodad")
    vm1.ip("addr add fd00:122::11/64 dev eth0 nodad", "route add default via fd00:122::1")
    out.ip("addr add fd00:10::9/64 dev lan nodad", "route add fd00:122::/64 via fd00:10::10")
    eventually(lambda: pings(vm1, "fd00:10::9"), "the outside is not reached")
    report = judge(site.read(), "vm1", "fd00:10::9")
    assert report.verdict == "unknown"
    assert [f.check for f in report.findings if f.role == "cause"] == []
