"""Where chance decides: every way is walked, and only what all agree on is claimed."""

from __future__ import annotations

import pytest

from kvmdiag.model.stack import NextHop, Route
from kvmdiag.model.trace import Outcome, Reason, RouteRef


@pytest.fixture
def two_ways(net):
    """From the guest by the host to far, over router r1 (10.1.1.2) or r2 (10.1.2.2)."""
    net.cable("guest", "eth0", "10.0.0.2/24", "host", "in0", "10.0.0.1/24")
    for n in (1, 2):
        net.cable("host", f"to-r{n}", f"10.1.{n}.1/24", f"r{n}", "eth0", f"10.1.{n}.2/24")
        net.cable(f"r{n}", "eth1", f"10.2.{n}.1/24", "far", f"eth{n}", f"10.2.{n}.2/24")
        net.route(f"r{n}", "10.0.0.0/24", f"10.1.{n}.1")
        net.route(f"r{n}", "10.3.0.0/24", f"10.2.{n}.2")
        net.forward(f"r{n}")
    net.forward("host")
    net.route("guest", "default", "10.0.0.1")
    net.link("far", "dummy0", "10.3.0.1/24", kind="dummy")
    net.route("far", "default", "10.2.1.1")
    hops = tuple(NextHop(link=f"to-r{n}", gateway=f"10.1.{n}.2") for n in (1, 2))
    net.add("host", "routes", Route(destination="10.3.0.0/24", next_hops=hops))
    return net


def test_every_next_hop_leads_there(two_ways):
    """Delivered by either: that is the answer, and what chance decides is said."""
    walk = two_ways.walk("guest", "10.3.0.1")
    assert walk.works is True
    assert any("10.1.1.2 on to-r1" in text for text in walk.request.assumptions)


def test_one_next_hop_loses_it(two_ways):
    """Half of all connections do not work: unknown for a single one, with both ends named."""
    two_ways.rules("r2", "-A FORWARD -j DROP")
    request = two_ways.walk("guest", "10.3.0.1").request
    assert request.outcome is Outcome.UNKNOWN
    assert "10.1.1.2 on to-r1" in request.end.because
    assert "10.1.2.2 on to-r2" in request.end.because
    assert "dropped in r2" in request.end.because
    assert isinstance(request.end.decider, RouteRef)


def test_no_next_hop_leads_there(two_ways):
    """All agree on the loss."""
    for router in ("r1", "r2"):
        two_ways.rules(router, "-A FORWARD -j DROP")
    request = two_ways.walk("guest", "10.3.0.1").request
    assert (request.outcome, request.reason) == (Outcome.DROPPED, Reason.NETFILTER)


def test_a_dead_next_hop_is_none(two_ways):
    """Only what is alive is chosen from."""
    two_ways.rules("r2", "-A FORWARD -j DROP")
    alive, dead = (
        NextHop(link=f"to-r{n}", gateway=f"10.1.{n}.2", flags=frozenset(flags))
        for n, flags in ((1, ()), (2, ("dead",)))
    )
    routes = [r for r in two_ways.stack("host").routes if r.destination != "10.3.0.0/24"]
    routes.append(Route(destination="10.3.0.0/24", next_hops=(alive, dead)))
    two_ways.change("host", routes=tuple(routes))
    walk = two_ways.walk("guest", "10.3.0.1")
    assert walk.works is True
    assert not walk.request.assumptions


def test_two_machines_with_one_mac_address(bridged):
    """The bridge sends to the one it heard last: whether that is g2 cannot be told."""
    bridged.guest("g3", "10.0.0.4/24")
    bridged.alter("g3", "eth0", mac=bridged.mac("g2", "eth0"))
    request = bridged.walk("g1", "g2").request
    assert request.outcome is Outcome.UNKNOWN
    assert "g2/eth0 and g3/eth0" in request.end.because
    assert "tap-g3" in request.end.because


def test_a_double_of_the_sender_may_get_its_replies(bridged):
    """g1 speaks to g2, and g3 has the MAC address of g1."""
    bridged.guest("g3", "10.0.0.4/24")
    bridged.alter("g3", "eth0", mac=bridged.mac("g1", "eth0"))
    walk = bridged.walk("g1", "g2")
    assert walk.request.outcome is Outcome.DELIVERED
    assert walk.reply.outcome is Outcome.UNKNOWN


def test_two_machines_with_one_address(bridged):
    """Both answer ARP; who is first has it. Where both take it the packet arrives, at either."""
    bridged.guest("g3", "10.0.0.3/24")
    walk = bridged.walk("g1", "10.0.0.3")
    assert walk.works is True
    assert any("in g2 as" in text and "in g3 as" in text for text in walk.request.assumptions)


def test_the_double_refuses(bridged):
    """The path is in doubt where only one of two machines with an address takes the packet."""
    bridged.guest("g3", "10.0.0.3/24")
    bridged.rules("g3", "-A INPUT -j DROP")
    request = bridged.walk("g1", "10.0.0.3").request
    assert request.outcome is Outcome.UNKNOWN
    assert "g2/eth0" in request.end.because
    assert "g3/eth0" in request.end.because
