"""What differs in IPv6 when a machine sends, translates or answers, judged by the kernel."""

from __future__ import annotations

from dataclasses import replace

import pytest
from differential.networks import ARRIVES, OVER, fate_of, iptables, nft, routed
from differential.plan import Ask, Chain, Rule, Stack, Table
from differential.six import six

pytestmark = pytest.mark.kernel

GUEST = Stack("guest", routes=("default via 10.0.1.1",))


@pytest.mark.parametrize("proto", ["icmp", "tcp", "udp"])
def test_a_rule_for_the_source_comes_too_late(proto):
    """The source is chosen by the route, and then there is no second look as in IPv4."""
    guest = replace(GUEST, rules=("pref 9 from 10.0.1.0/24 blackhole",))
    ask = Ask("guest", "10.0.2.2", proto, None if proto == "icmp" else 80)
    case = routed(ask, guest=guest)
    assert fate_of(six(case)) == ARRIVES
    assert (fate_of(case) == ARRIVES) is (proto == "icmp")


@pytest.mark.parametrize("proto", ["icmp", "udp"])
def test_without_a_route_it_looks_again_with_a_source(proto):
    """Then a rule for that source may well know a way."""
    guest = Stack(
        "guest",
        rules=("pref 9 from 10.0.1.0/24 lookup 100",),
        routes=("default via 10.0.1.1 table 100",),
    )
    ask = Ask("guest", "10.0.2.2", proto, None if proto == "icmp" else 53)
    case = routed(ask, guest=guest)
    assert fate_of(six(case)) == ARRIVES
    assert fate_of(case) == "request no-route no-route"


def test_masquerade_chooses_by_the_destination():
    """By what it has most bits in common with, not by the gateway as in IPv4."""
    case = routed(
        Ask("guest", "10.0.2.2", bound="10.0.1.2"),
        guest=replace(
            GUEST,
            extra=("addr add 10.0.2.66/25 dev eth0 noprefixroute",),
            tables=(iptables("nat", "POSTROUTING", Rule((), ("masquerade",))),),
        ),
        routes=("10.0.2.66/32 dev in0",),
    )
    assert fate_of(case) == ARRIVES
    assert fate_of(six(case)) != ARRIVES


def test_an_address_is_answered_for_on_its_own_link_only():
    """A machine with IPv4 answers for its addresses on all of its links."""
    case = routed(Ask("guest", "10.0.2.1"), guest=Stack("guest", routes=("10.0.2.0/24 dev eth0",)))
    assert fate_of(case) == ARRIVES
    assert fate_of(six(case)) == "request unresolved unresolved"


def test_nobody_asks_in_the_name_of_another_link():
    """So the router does not learn where that address is, and asks for it in vain."""
    guest = replace(GUEST, extra=("addr add 10.0.3.9/32 dev lo",))
    case = routed(
        Ask("guest", "10.0.1.1", bound="10.0.3.9"), guest=guest, routes=("10.0.3.9/32 dev in0",)
    )
    assert fate_of(case) == ARRIVES
    assert fate_of(six(case)) == "reply unresolved unresolved"


def test_masquerade_on_the_loopback():
    """To oneself one speaks as oneself: as ::1."""
    chains = (
        Chain("OUTPUT", (Rule((), ("redirect",)),), "output", "nat"),
        Chain("POSTROUTING", (Rule((), ("masquerade",)),), "postrouting", "nat"),
    )
    guest = replace(GUEST, tables=(Table("iptables", "ip", "nat", chains),))
    assert fate_of(six(routed(Ask("guest", "10.0.2.2", "udp", 53), guest=guest))) == ARRIVES


def test_a_mark_leads_neighbour_discovery_astray():
    """What is marked in a route chain is routed anew, and the answer goes nowhere."""
    rules = (Rule((), ("mark", "7")),)
    far = Stack(
        "far",
        routes=("default via 10.0.2.1",),
        rules=("pref 9 fwmark 7 blackhole",),
        tables=(nft("inet", "output", *rules, kind="route"),),
    )
    case = six(routed(replace(OVER, bound=None), far=far))
    assert fate_of(case) == "request unresolved netfilter"


@pytest.mark.parametrize("make", [six, lambda case: case], ids=["IPv6", "IPv4"])
def test_pings_are_ignored(make):
    """Each has a setting of its own, which lets everything else through."""
    far = Stack(
        "far",
        routes=("default via 10.0.2.1",),
        sysctls=(("net.ipv4.icmp_echo_ignore_all", 1),),
    )
    assert fate_of(make(routed(OVER, far=far))) == "request dropped no-listener"
    assert fate_of(make(routed(Ask("guest", "10.0.2.2", "udp", 53), far=far))) == ARRIVES
