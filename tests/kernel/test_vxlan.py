"""VXLAN, judged by the kernel: two hosts whose guests are on one bridge each, over a tunnel."""

from __future__ import annotations

import pytest
from pinged import Pinged

from kvmdiag.model.trace import Outcome, Reason

pytestmark = pytest.mark.kernel


@pytest.fixture
def net(namespaces, eventually):
    """Guests g1 (10.0.0.2) on the host and g2 (10.0.0.3) on the other one; cable 192.0.2.0/30."""
    net = Pinged(namespaces, "host", "other", "g1", "g2")
    net.cable("host", "up0", "other", "up0")
    for number, (machine, guest) in enumerate((("host", "g1"), ("other", "g2")), 1):
        net[machine].ip(
            f"addr add 192.0.2.{number}/30 dev up0",
            "link add br0 type bridge mcast_snooping 0",
            "link set br0 up",
            f"link add vx0 type vxlan id 5 dstport 4789 local 192.0.2.{number}"
            f" remote 192.0.2.{3 - number}",
            "link set vx0 master br0",
            "link set vx0 up",
        )
        net.cable(guest, "eth0", machine, "v0")
        net[machine].ip("link set v0 master br0")
        net[guest].ip(f"addr add 10.0.0.{number + 1}/24 dev eth0", "link set eth0 mtu 1450")
    net.ready(eventually)
    return net


def test_guests_of_two_hosts(net):
    """The frame goes wrapped; each hop of what carries it is one of the way."""
    walk = net.judged("g1", "10.0.0.3")
    assert walk.works is True
    assert any("wrapped as VXLAN 5, for 192.0.2.2" in hop.decision for hop in walk.request.hops)
    assert ("other", "up0") in {(hop.stack, hop.link) for hop in walk.request.hops}


def test_the_far_end_drops_what_carries_it(net):
    """ARP is lost as well; the walk finds the rule with the packet that carries the ping."""
    net["other"].run("iptables -A INPUT -p udp --dport 4789 -j DROP")
    request = net.judged("g1", "10.0.0.3").request
    assert (request.outcome, request.reason) == (Outcome.DROPPED, Reason.NETFILTER)
    assert request.end.stack == "other"


def test_no_way_to_the_peer(net):
    """Without a route nothing is sent."""
    net["host"].ip("route del 192.0.2.0/30 dev up0")
    assert net.judged("g1", "10.0.0.3").request.outcome is Outcome.NO_ROUTE


def test_another_number(net):
    """The peer unwraps other networks only."""
    net["other"].ip(
        "link del vx0",
        "link add vx0 type vxlan id 6 dstport 4789 local 192.0.2.2 remote 192.0.2.1",
        "link set vx0 master br0",
        "link set vx0 up",
    )
    assert net.judged("g1", "10.0.0.3").works is False


def test_a_link_with_too_little_room(net):
    """What carries a frame is 50 bytes longer, and may be cut up: that alone loses nothing."""
    for machine in ("host", "other"):
        net[machine].ip("link set up0 mtu 120")
    assert net.judged("g1", "10.0.0.3").works is True
