"""The packets that follow a flow's first one, judged by the kernel."""

from __future__ import annotations

from dataclasses import replace

import pytest
from differential.networks import (
    ACROSS,
    ARRIVES,
    OVER,
    bridged,
    drop,
    fate_of,
    fates_of,
    iptables,
    roundabout,
    routed,
)
from differential.plan import Ask, Chain, Rule, Stack, Table

pytestmark = pytest.mark.kernel

STOPPED = "request dropped netfilter"
ASKS = [OVER, Ask("guest", "10.0.2.2", "udp", 53), Ask("guest", "10.0.2.2", "tcp", 80)]


@pytest.mark.parametrize("ask", ASKS, ids=lambda ask: ask.proto)
def test_what_follows_is_established(ask):
    """Once there was an answer; the first packet of the flow is new."""
    rule = drop(("state", "established", False), ("ctdir", "original", False))
    case = routed(ask, tables=(iptables("filter", "FORWARD", rule),))
    assert fates_of(case) == (ARRIVES, STOPPED)


@pytest.mark.parametrize("ask", ASKS[:2], ids=lambda ask: ask.proto)
def test_what_never_got_through_is_new_each_time(ask):
    """A connection is entered into the table when its packet leaves the stack."""
    chains = (
        Chain("PREROUTING", (drop(("state", "established", False)),), "prerouting"),
        Chain("FORWARD", (drop(),), "forward"),
    )
    case = routed(ask, tables=(Table("iptables", "ip", "mangle", chains),))
    assert fates_of(case) == (STOPPED, STOPPED)


@pytest.mark.parametrize("ask", ASKS, ids=lambda ask: ask.proto)
def test_answers_by_another_way(ask):
    """To conntrack TCP that goes on without an answer is invalid; other flows just stay new."""
    rules = (iptables("filter", "FORWARD", drop(("state", "invalid", False))),)
    later = STOPPED if ask.proto == "tcp" else ARRIVES
    assert fates_of(roundabout(ask, tables=rules)) == (ARRIVES, later)


def test_a_connection_that_is_refused_midway():
    """Rules that let the handshake begin and reset what follows."""
    rule = Rule((("proto", "tcp", False), ("state", "established", False)), ("reject", "tcp-reset"))
    guest = Stack(
        "guest", routes=("default via 10.0.1.1",), tables=(iptables("filter", "OUTPUT", rule),)
    )
    assert fates_of(routed(ASKS[2], guest=guest)) == (ARRIVES, "request rejected netfilter")


def test_a_stack_that_pings_itself():
    """Question and answer have the same addresses and id, and yet each its own direction."""
    chains = (Chain("PREROUTING", (drop(("ctdir", "reply", False)),), "prerouting"),)
    tables = (Table("legacy", "ip", "raw", chains),)
    guest = Stack("guest", routes=("default via 10.0.1.1",), tables=tables)
    case = routed(Ask("guest", "10.0.1.2"), guest=guest)
    assert fates_of(case) == ("reply dropped netfilter",) * 2


@pytest.mark.parametrize("proto", ["icmp", "tcp"])
def test_an_answer_that_somebody_else_gets(proto):
    """SNAT to an address that is another stack's: the answer arrives, and not where it should."""
    rule = Rule((("oif", "eth0", False),), ("snat", "10.0.1.1"))
    case = bridged(replace(ACROSS, proto=proto, port=None if proto == "icmp" else 80))
    host, guest, other = case.stacks
    guest = replace(guest, tables=(iptables("nat", "POSTROUTING", rule),))
    assert fate_of(replace(case, stacks=(host, guest, other))) == "reply dropped no-listener"


@pytest.mark.parametrize("target", ["10.0.2.2", "10.0.9.9"])
def test_what_is_sent_elsewhere_is_routed_right_there(target):
    """Without a route it is gone before the filter, which would have rejected it."""
    tables = (
        iptables("nat", "OUTPUT", Rule((), ("dnat", target))),
        iptables("filter", "OUTPUT", Rule((), ("reject",))),
    )
    guest = Stack("guest", routes=("10.0.2.0/24 via 10.0.1.1",), tables=tables)
    case = routed(Ask("guest", "10.0.1.1"), guest=guest)
    there = target == "10.0.2.2"
    assert fate_of(case) == "request " + ("rejected netfilter" if there else "no-route no-route")


@pytest.mark.parametrize("allowed", [0, 1])
def test_a_loopback_source_stays_within(allowed):
    """An answer from 127.0.0.1 to an address that only a translation made up."""
    chains = (
        Chain("OUTPUT", (Rule((), ("redirect",)),), "output", "nat"),
        Chain("POSTROUTING", (Rule((), ("netmap", "10.0.9.0/24")),), "postrouting", "nat"),
    )
    guest = Stack(
        "guest",
        routes=("default via 10.0.1.1",),
        tables=(Table("iptables", "ip", "nat", chains),),
        sysctls=(("net.ipv4.conf.all.route_localnet", allowed),),
    )
    case = routed(Ask("guest", "10.0.2.2", "udp", 53), guest=guest)
    assert fate_of(case) == (ARRIVES if allowed else "reply dropped martian")


def test_what_is_sent_elsewhere_may_not_fit_there():
    """It fitted the loopback on which it was sent first."""
    guest = Stack(
        "guest",
        routes=("default via 10.0.1.1",),
        tables=(iptables("nat", "OUTPUT", Rule((), ("dnat", "10.0.2.2"))),),
    )
    case = routed(Ask("guest", "10.0.1.2", size=1501), guest=guest)
    assert fate_of(case) == "request rejected mtu"
