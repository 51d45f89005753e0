"""Where chance decides the kernel goes either way, and the walk claims neither."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from pinged import Pinged

from kvmdiag.model.trace import Outcome

pytestmark = pytest.mark.kernel


@pytest.fixture
def two_ways(namespaces, eventually):
    """From the host by r1 or r2 to far, which has all of 10.3.0.0/24."""
    net = Pinged(namespaces, "host", "r1", "r2", "far")
    for n in (1, 2):
        net.cable("host", f"e{n}", f"r{n}", "in0")
        net.cable("far", f"e{n}", f"r{n}", "out0")
        net["host"].ip(f"addr add 10.1.{n}.1/24 dev e{n}")
        net["far"].ip(f"addr add 10.2.{n}.2/24 dev e{n}")
        net[f"r{n}"].ip(f"addr add 10.1.{n}.2/24 dev in0", f"addr add 10.2.{n}.1/24 dev out0")
        net[f"r{n}"].ip(f"route add 10.3.0.0/24 via 10.2.{n}.2")
        net[f"r{n}"].sysctl("net.ipv4.ip_forward", 1)
        net["far"].ip(f"route add 10.1.{n}.0/24 via 10.2.{n}.1")
    net["host"].ip("route add 10.3.0.0/24 nexthop via 10.1.1.2 nexthop via 10.1.2.2")
    net["far"].ip("route add local 10.3.0.0/24 dev lo")
    net.ready(eventually)
    return net


def _fates(net: Pinged) -> set[bool]:
    """How pings to a number of addresses end, each by the next hop that its hash chooses."""
    with ThreadPoolExecutor(8) as pool:
        return set(pool.map(lambda n: net.pinged("host", f"10.3.0.{n}"), range(1, 25)))


def test_either_next_hop_leads_there(two_ways):
    """Then it does not matter which is chosen."""
    assert two_ways.walk("host", "10.3.0.1").works is True
    assert _fates(two_ways) == {True}


def test_one_next_hop_loses_it(two_ways):
    """Some addresses are reached and others are not; of a single one it cannot be told."""
    two_ways["r2"].sysctl("net.ipv4.ip_forward", 0)
    request = two_ways.walk("host", "10.3.0.1").request
    assert request.outcome is Outcome.UNKNOWN
    assert "r2 does not forward" in request.end.because
    assert _fates(two_ways) == {True, False}


def test_two_machines_with_one_mac_address(namespaces, eventually):
    """The bridge sends to the one that spoke last."""
    net = Pinged(namespaces, "host", "g1", "g2", "g3")
    net["host"].ip("link add br0 type bridge mcast_snooping 0", "link set br0 up")
    for number, name in enumerate(("g1", "g2", "g3"), 2):
        net.cable(name, "eth0", "host", name)
        net["host"].ip(f"link set {name} master br0")
        net[name].ip(f"addr add 10.0.0.{number}/24 dev eth0")
    for name in ("g2", "g3"):
        net[name].ip("link set eth0 address 02:00:00:00:00:23")
    net["g1"].ip("neigh add 10.0.0.3 lladdr 02:00:00:00:00:23 dev eth0")
    net.ready(eventually)
    request = net.walk("g1", "10.0.0.3").request
    assert request.outcome is Outcome.UNKNOWN
    assert "g2/eth0 and g3/eth0" in request.end.because
    assert net.pinged("g2", "10.0.0.2")
    assert net.pinged("g1", "10.0.0.3")
    assert net.pinged("g3", "10.0.0.2")
    assert not net.pinged("g1", "10.0.0.3")
