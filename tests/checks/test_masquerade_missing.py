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
