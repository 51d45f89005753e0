"""The IP layer of the walk: source addresses, routes, policy rules, forwarding."""

from __future__ import annotations

import pytest

from kvmdiag.model.link_kinds import Vrf
from kvmdiag.model.stack import NextHop, Route
from kvmdiag.model.trace import Outcome, Reason, Stage


def test_request_and_reply_arrive(routed):
    """Everything set up right: there and back, and the reply ends where the request began."""
    walk = routed.walk("guest", "far")
    assert walk.works is True
    assert str(walk.request.end.place) == "far/eth0"
    assert str(walk.reply.end.place) == "guest/eth0"
    assert str(walk.request.end.packet.src) == "10.1.0.2"


def test_a_hop_costs_one_of_the_time_to_live(routed):
    """ip_forward takes one from the TTL; bridging and delivery take none."""
    assert routed.walk("guest", "far").request.end.packet.ttl == 63


def test_longest_prefix_wins(routed):
    """A blackhole for the one address beats the route to its network."""
    routed.route("host", "10.2.0.2/32", type="blackhole")
    walk = routed.walk("guest", "far")
    assert (walk.request.outcome, walk.request.reason) == (Outcome.DROPPED, Reason.NO_ROUTE)
    assert walk.request.end.decider.text == "blackhole 10.2.0.2/32"


@pytest.mark.parametrize("kind", ["unreachable", "prohibit"])
def test_routes_that_say_no(routed, kind):
    """The sender is told; that is no drop."""
    routed.route("host", "10.2.0.2/32", type=kind)
    assert routed.walk("guest", "far").request.outcome is Outcome.NO_ROUTE


def test_throw_goes_on_with_the_next_rule(routed):
    """A throw route ends its own table only."""
    routed.policy("host", 100, table=7)
    routed.route("host", "10.2.0.0/24", type="throw", table=7)
    assert routed.walk("guest", "far").works is True


def test_lowest_metric_wins(routed):
    """Of two routes to the same network the one with the lower metric is taken."""
    routed.route("guest", "default", dev="lo", metric=10)
    assert routed.walk("guest", "far").works is True


def test_no_route_at_the_source(net):
    """The sender itself has no route: nothing leaves."""
    net.cable("a", "eth0", "10.0.0.1/24", "b", "eth0", "10.0.0.2/24")
    walk = net.walk("a", "192.0.2.1")
    assert (walk.request.outcome, walk.request.reason) == (Outcome.NO_ROUTE, Reason.NO_ROUTE)
    assert walk.request.end.stage is Stage.OUTPUT
    assert str(walk.request.end.packet.src) == "0.0.0.0", "none was chosen yet"


def test_no_way_back_is_found_in_the_reply(routed):
    """The request arrives, the reply does not: the walk says which."""
    routed.change("far", routes=routed.stack("far").routes[:-1])
    walk = routed.walk("guest", "far")
    assert walk.request.outcome is Outcome.DELIVERED
    assert walk.decisive is walk.reply
    assert walk.reply.reason is Reason.NO_ROUTE


def test_own_address_is_reached_by_the_loopback(routed):
    """A packet to oneself needs no neighbour, whatever link has the address."""
    walk = routed.walk("guest", "10.1.0.2")
    assert walk.works is True
    assert walk.request.end.link == "lo"


def test_a_router_answers_for_all_its_addresses(routed):
    """Weak host model: the address is the machine's, not the link's."""
    walk = routed.walk("guest", "10.2.0.1")
    assert walk.request.outcome is Outcome.DELIVERED
    assert walk.request.end.stack == "host"


def test_preferred_source_of_the_route(routed):
    """The route's own source address goes before the link's."""
    routed.address("guest", "lo", "192.0.2.9/32")
    routed.route("guest", "10.2.0.0/24", "10.1.0.1", preferred_source="192.0.2.9")
    assert str(routed.walk("guest", "far").request.hops[0].packet.src) == "192.0.2.9"


def test_without_gateway_the_first_address_is_used(net):
    """A route to a device, made by hand, selects the link's first address (inet_select_addr)."""
    net.cable("a", "eth0", "10.0.0.1/24", "b", "eth0", "10.0.0.2/24")
    net.address("a", "eth0", "172.16.0.1/16")
    net.add("a", "routes", Route(destination="172.16.5.0/24", next_hops=(NextHop(link="eth0"),)))
    assert str(net.walk("a", "172.16.5.5").request.hops[0].packet.src) == "10.0.0.1"


def test_forwarding_is_asked_of_the_incoming_link(routed):
    """IN_DEV_FORWARD of the link it came in by; the other way still works."""
    routed.set("host", "net.ipv4.conf.in0.forwarding", 0)
    walk = routed.walk("guest", "far")
    assert (walk.request.outcome, walk.request.reason) == (
        Outcome.DROPPED,
        Reason.FORWARDING_OFF,
    )
    back = routed.walk("far", "guest")
    assert back.request.arrived
    assert back.reply.reason is Reason.FORWARDING_OFF


def test_ip_forward_itself_is_not_looked_at(routed):
    """It only sets the links' own switches in bulk."""
    routed.set("host", "net.ipv4.ip_forward", 0)
    assert routed.walk("guest", "far").works is True


def test_policy_rules_by_priority(routed):
    """The lowest number first; a prohibiting rule ends the search."""
    routed.policy("host", 50, action="prohibit", source="10.1.0.0/24")
    assert routed.walk("guest", "far").request.outcome is Outcome.NO_ROUTE


def test_goto_rule_skips_others(routed):
    """``goto`` continues at the rule of that number."""
    routed.policy("host", 50, action="goto", goto=200)
    routed.policy("host", 100, action="blackhole")
    routed.policy("host", 200, action="nop")
    assert routed.walk("guest", "far").works is True


def test_suppressed_default_route(routed):
    """suppress_prefixlength 0: the main table counts only where it knows more than a default."""
    routed.policy("guest", 50, table=254, suppress_prefix_length=0)
    routed.policy("guest", 60, action="unreachable")
    assert routed.walk("guest", "10.1.0.1").request.arrived
    assert routed.walk("guest", "far").request.outcome is Outcome.NO_ROUTE


def test_unknown_selector_is_said(routed):
    """A rule that may or may not apply makes the walk unknown, and is named."""
    routed.policy("host", 50, table=254, unknown=("tun_id 5",))
    walk = routed.walk("guest", "far")
    assert (walk.request.outcome, walk.request.reason) == (Outcome.UNKNOWN, Reason.NOT_MODELLED)
    assert "tun_id 5" in walk.request.end.because


@pytest.mark.parametrize("fact", ["routes", "policy_rules", "tables", "addresses", "sysctls"])
def test_what_was_not_read_is_unknown(routed, fact):
    """A missing fact never counts as empty."""
    routed.change("host", **{fact: None})
    walk = routed.walk("guest", "far")
    assert (walk.request.outcome, walk.request.reason) == (Outcome.UNKNOWN, Reason.NOT_READ)
    assert fact in walk.request.end.because


def test_a_routing_loop_ends_with_the_time_to_live(net):
    """Two routers that send a packet to each other: ICMP time exceeded."""
    net.cable("a", "eth0", "10.0.0.1/24", "b", "eth0", "10.0.0.2/24")
    net.cable("guest", "eth0", "10.1.0.2/24", "a", "eth1", "10.1.0.1/24")
    net.route("guest", "default", "10.1.0.1")
    net.route("a", "default", "10.0.0.2")
    net.route("b", "default", "10.0.0.1")
    net.forward("a")
    net.forward("b")
    walk = net.walk("guest", "192.0.2.1")
    assert (walk.request.outcome, walk.request.reason) == (Outcome.REJECTED, Reason.TTL)


def test_a_connecting_socket_looks_twice(routed):
    """The second time with the source it got, so that a rule for that source applies."""
    routed.policy("guest", 100, source="10.1.0.2/32", action="blackhole")
    assert routed.walk("guest", "far").request.arrived
    assert routed.walk("guest", "far", "tcp", 80).request.outcome is Outcome.DROPPED


def test_a_route_for_some_sources_only(net):
    """IPv6 has them: who comes from elsewhere takes the route for all."""
    net.cable("a", "eth0", "fd00::1/64", "b", "eth0", "fd00::2/64")
    net.link("b", "dummy0", "fd09::1/64", kind="dummy")
    net.route("b", "fd00::/64", dev="eth0")
    net.route("a", "fd09::/64", "fd00::2")
    net.add("a", "routes", Route(destination="fd09::/64", type="blackhole", source="fd05::/64"))
    assert net.walk("a", "fd09::1").works is True
    net.address("a", "eth0", "fd05::1/64")
    assert net.walk("a", "fd09::1", bound="fd05::1").request.outcome is Outcome.DROPPED


def test_a_routing_domain_next_door(routed):
    """The rule for all VRFs says nothing of what neither comes from one nor goes to one."""
    routed.policy("host", 1000, unknown=("l3mdev",))
    routed.link("host", "blue", kind="vrf", vrf=Vrf(table=10))
    assert routed.walk("guest", "far").works is True
    routed.alter("host", "in0", master="blue")
    request = routed.walk("guest", "far").request
    assert (request.outcome, request.reason) == (Outcome.UNKNOWN, Reason.NOT_MODELLED)
    assert "vrf" in request.end.because
