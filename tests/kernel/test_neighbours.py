"""Who answers ARP, and who is kept from it, judged by the kernel."""

from __future__ import annotations

from dataclasses import replace

import pytest
from differential.networks import (
    ACROSS,
    ARRIVES,
    FORWARD,
    OVER,
    bridged,
    drop,
    fate_of,
    nft,
    routed,
)
from differential.plan import Ask, Bridge, Chain, Rule, Stack, Table

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize(
    ("level", "fate"),
    [
        (0, ARRIVES),
        (1, "request unresolved unresolved"),
        (2, "request unresolved unresolved"),
        (3, ARRIVES),
        (8, "request unresolved unresolved"),
    ],
)
def test_arp_ignore(level, fate):
    """Asked for an address that is on another link."""
    guest = Stack("guest", routes=("10.0.2.0/24 dev eth0",))
    case = routed(
        Ask("guest", "10.0.2.1"), guest=guest, sysctls=(("net.ipv4.conf.all.arp_ignore", level),)
    )
    assert fate_of(case) == fate


@pytest.mark.parametrize(("proxy", "fate"),
                         [(0, "request unresolved unresolved"), (1, ARRIVES)])  # fmt: skip
def test_proxy_arp(proxy, fate):
    """A router answers for what lies behind it, if told to."""
    guest = Stack("guest", routes=("10.0.2.0/24 dev eth0",))
    case = routed(OVER, guest=guest, sysctls=(("net.ipv4.conf.in0.proxy_arp", proxy),))
    assert fate_of(case) == fate


@pytest.mark.parametrize("hook", ["prerouting", "forward", "postrouting"])
def test_rules_of_a_bridge_stop_arp_first(hook):
    """A rule that drops everything drops the ARP question before there is any packet."""
    case = bridged(ACROSS, tables=(nft("bridge", hook, drop()),))
    assert fate_of(case) == "request unresolved netfilter"


def test_a_neighbour_that_asked_is_known():
    """The guest answers no ARP, but its own question has told the host where it is."""
    guest = Stack(
        "guest",
        routes=("default via 10.0.1.1",),
        sysctls=(("net.ipv4.conf.all.arp_ignore", 8),),
    )
    assert fate_of(routed(OVER, guest=guest)) == ARRIVES
    assert fate_of(routed(Ask("far", "10.0.1.2"), guest=guest)) == "request unresolved unresolved"


def test_a_route_out_of_a_bridge_port():
    """Answers that come in by a port go to its bridge: the address was left on the NIC."""
    case = bridged(
        Ask("host", "10.0.1.2"),
        bridge=Bridge("br1"),
        extra=("addr add 10.0.1.1/24 dev v1",),
    )
    assert fate_of(case) == "request unresolved unresolved"


@pytest.mark.parametrize("hook", ["input", "output"])
def test_rules_for_arp(hook):
    """A guest that takes no questions, or gives no answers."""
    case = bridged(ACROSS)
    table = Table("nft", "arp", "t", (Chain("c", (), hook, policy="drop"),))
    guest = replace(case.stacks[2], tables=(table,))
    case = replace(case, stacks=(*case.stacks[:2], guest))
    assert fate_of(case) == "request unresolved netfilter"


def test_arp_has_no_protocol():
    """A rule for all but TCP does not match it, negated or not."""
    rule = Rule((("proto", "icmp", True),), ("drop",))
    assert fate_of(bridged(ACROSS, tables=(nft("bridge", "prerouting", rule),))) == ARRIVES


@pytest.mark.parametrize(("pvlan", "fate"), [(1, ARRIVES), (0, "request unresolved isolated")])
def test_proxy_arp_for_isolated_ports(pvlan, fate):
    """The router answers for a neighbour on the same link, and sends the packet back out of it."""
    case = bridged(
        ACROSS,
        ports=(("isolated", "on"), ("isolated", "on")),
        sysctls=((FORWARD, 1), ("net.ipv4.conf.br1.proxy_arp_pvlan", pvlan)),
    )
    assert fate_of(case) == fate
