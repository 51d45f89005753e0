"""Translations, connections and the order of chains, judged by the kernel."""

from __future__ import annotations

from dataclasses import replace

import pytest
from differential.networks import (
    ACROSS,
    ARRIVES,
    CALL,
    FORWARD,
    OVER,
    bridged,
    drop,
    fate_of,
    iptables,
    nft,
    routed,
)
from differential.plan import Ask, Bridge, Cable, Case, Chain, Link, Rule, Stack, Table

pytestmark = pytest.mark.kernel


def test_masquerade_and_its_reply():
    """The far side sees the router's address; the reply finds its way back."""
    rule = Rule((("oif", "out0", False),), ("masquerade",))
    far = Stack("far")  # it knows no way to the guest's network
    assert fate_of(routed(OVER, far=far, tables=(iptables("nat", "POSTROUTING", rule),))) == (
        ARRIVES
    )
    assert fate_of(routed(OVER, far=far)) == "reply no-route no-route"


@pytest.mark.parametrize("proto", ["icmp", "tcp", "udp"])
def test_dnat_and_redirect(proto):
    """The destination changes, and the answer seems to come from the one asked."""
    port = None if proto == "icmp" else 80
    to = "10.0.2.2" if proto == "icmp" else "10.0.2.2:8080"
    rule = Rule((("proto", proto, False), ("daddr", "10.0.1.1", False)), ("dnat", to))
    ask = Ask("guest", "10.0.1.1", proto, port)
    assert fate_of(routed(ask, tables=(iptables("nat", "PREROUTING", rule),))) == ARRIVES
    rule = Rule((("proto", proto, False), ("daddr", "10.0.2.2", False)), ("redirect",))
    ask = Ask("guest", "10.0.2.2", proto, port)
    assert fate_of(routed(ask, tables=(iptables("nat", "PREROUTING", rule),))) == ARRIVES


@pytest.mark.parametrize("snat", [True, False])
def test_hairpin(snat):
    """DNAT back into the network it came from works only with the source translated."""
    chains = (
        Chain("PREROUTING", (Rule((("daddr", "10.0.1.1", False),), ("dnat", "10.0.1.3")),),
              "prerouting", "nat"),
        Chain("POSTROUTING", (Rule((("daddr", "10.0.1.3", False),), ("masquerade",)),) * snat,
              "postrouting", "nat"),
    )  # fmt: skip
    case = bridged(
        Ask("g1", "10.0.1.1", "tcp", 80),
        sysctls=((FORWARD, 1), (CALL, 0)),
        tables=(Table("iptables", "ip", "nat", chains),),
    )
    assert (fate_of(case) == ARRIVES) is snat


def test_nat_chains_are_idle_without_conntrack():
    """A drop in a nat chain does nothing until something switches conntrack on."""
    nat = nft("ip", "prerouting", drop(), kind="nat", priority=-100)
    assert fate_of(routed(OVER, tables=(nat,))) == ARRIVES
    watch = nft("ip", "forward", Rule((("state", "invalid", False),), ("drop",)))
    assert fate_of(routed(OVER, tables=(nat, watch))) == "request dropped netfilter"


def test_goto_goes_on_where_the_last_jump_came_from():
    """In a base chain that is its policy."""
    user = Chain("user", (Rule((("proto", "tcp", False),), ("accept",)),))
    for how, fate in (("jump", "request dropped netfilter"), ("goto", ARRIVES)):
        base = Chain("FORWARD", (Rule((), (how, "user")), drop()), "forward")
        table = Table("iptables", "ip", "filter", (user, base))
        assert fate_of(routed(OVER, tables=(table,))) == fate


def test_accept_in_one_table_and_drop_in_another():
    """Every base chain has its say."""
    accept = iptables("filter", "FORWARD", Rule())
    later = nft("inet", "forward", drop(), priority=10)
    assert fate_of(routed(OVER, tables=(accept, later))) == "request dropped netfilter"


def test_an_answer_without_its_question_is_invalid():
    """The firewall sees only the way back, of a TCP connection."""
    firewall = nft("inet", "forward", Rule((("state", "invalid", False),), ("drop",)))
    case = routed(Ask("guest", "10.0.2.2", "tcp", 80), tables=(firewall,))
    host, guest, far = case.stacks
    guest = replace(
        guest,
        links=(*guest.links, Link("eth1", "10.0.9.1/24")),
        routes=("10.0.2.2/32 via 10.0.9.2 src 10.0.1.2",),
    )
    far = replace(far, links=(*far.links, Link("eth1", "10.0.9.2/24")))
    cables = (*case.cables, Cable(("guest", "eth1"), ("far", "eth1")))
    assert fate_of(Case((host, guest, far), cables, case.asks)) == "reply dropped netfilter"


@pytest.mark.parametrize("backend", ["legacy", "iptables"])
def test_before_conntrack_a_packet_is_invalid(backend):
    """The raw table sees packets before their connection is known."""
    rule = Rule((("state", "invalid", False),), ("drop",))
    table = Table(backend, "ip", "raw", (Chain("PREROUTING", (rule,), "prerouting"),))
    assert fate_of(routed(OVER, tables=(table,))) == "request dropped netfilter"


def test_redirect_to_a_link_without_an_address():
    """There is nothing to redirect to: the packet is dropped, other links' addresses or not."""
    rule = Rule((), ("redirect",))
    case = bridged(
        ACROSS,
        bridge=Bridge("br1"),
        sysctls=((CALL, 1),),
        tables=(iptables("nat", "PREROUTING", rule),),
        extra=("addr add 192.0.2.1/32 dev lo",),
    )
    assert fate_of(case) == "request dropped netfilter"


@pytest.mark.parametrize(
    ("rules", "fate"),
    [
        ((), "request dropped netfilter"),
        ((Rule((("iif", "in0", False), ("oif", "out0", False))),), "reply dropped netfilter"),
        (
            (
                Rule((("state", "established", False),)),
                Rule((("iif", "in0", False), ("oif", "out0", False))),
            ),
            ARRIVES,
        ),
    ],
)
def test_half_fixed_docker(rules, fate):
    """Docker's policy is DROP: one accepting rule lets the request out, and no reply back in."""
    table = iptables("filter", "FORWARD", *rules, policy="drop")
    assert fate_of(routed(OVER, tables=(table,))) == fate


# Translations are carried out at -100 and at 100, whatever the priority of the nat chain is.
@pytest.mark.parametrize(
    ("own", "hook", "priority", "address", "fate"),
    [
        (-100, "prerouting", -101, "10.0.1.1", "request dropped netfilter"),
        (50, "prerouting", -99, "10.0.2.2", "request dropped netfilter"),
        (50, "prerouting", -99, "10.0.1.1", ARRIVES),
        (-150, "prerouting", -101, "10.0.2.2", ARRIVES),
        (-100, "forward", -200, "10.0.2.2", "request dropped netfilter"),
    ],
)
def test_filters_before_and_after_dnat(own, hook, priority, address, fate):
    """A filter sees the destination as it is at its own priority."""
    rule = Rule((("daddr", "10.0.1.1", False),), ("dnat", "10.0.2.2"))
    nat = nft("ip", "prerouting", rule, kind="nat", priority=own)
    filters = replace(
        nft("ip", hook, drop(("daddr", address, False)), priority=priority), name="filters"
    )
    assert fate_of(routed(Ask("guest", "10.0.1.1"), tables=(nat, filters))) == fate


@pytest.mark.parametrize(
    ("priority", "address", "fate"),
    [
        (99, "10.0.1.2", "request dropped netfilter"),
        (101, "10.0.1.2", ARRIVES),
        (101, "10.0.2.1", "request dropped netfilter"),
    ],
)
def test_filters_before_and_after_snat(priority, address, fate):
    """And the source."""
    rule = Rule((("oif", "out0", False),), ("masquerade",))
    filters = nft("ip", "postrouting", drop(("saddr", address, False)), priority=priority)
    tables = (iptables("nat", "POSTROUTING", rule), filters)
    assert fate_of(routed(OVER, tables=tables)) == fate


@pytest.mark.parametrize(
    ("routes", "fate"),
    [((), ARRIVES), (("unreachable fd00::104/128",), "reply dropped no-route")],
)
def test_a_translated_reply_over_a_bridge_needs_no_forwarding_in_ipv6(routes, fate):
    """It stays on the bridge, forwarding or not; what has no route there is gone in silence."""
    rule = Rule(does=("netmap", "fd00::200/120"))
    table = Table("iptables", "ip6", "nat", (Chain("POSTROUTING", (rule,), "postrouting", "nat"),))
    host = Stack(
        "host",
        links=(Link("v1", master="br1"), Link("v2", master="br1")),
        bridges=(Bridge("br1", "fd00::101/120"),),
        routes=routes,
        tables=(table,),
    )
    guests = (
        Stack("g1", links=(Link("eth0", "fd00::104/120"),)),
        Stack("g2", links=(Link("eth0", "fd00::103/120"),), routes=("default via fd00::101",)),
    )
    cables = tuple(Cable((f"g{n}", "eth0"), ("host", f"v{n}")) for n in (1, 2))
    case = Case((host, *guests), cables, (Ask("g1", "fd00::103"),), version=6)
    assert fate_of(case) == fate
