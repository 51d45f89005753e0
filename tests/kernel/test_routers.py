"""What the IP layer does to packets, judged by the kernel."""

from __future__ import annotations

from dataclasses import replace

import pytest
from differential.networks import ARRIVES, FORWARD, OVER, fate_of, nft, routed
from differential.plan import Ask, Chain, Rule, Stack, Table

pytestmark = pytest.mark.kernel


_COMBINATIONS = [(a, b) for a in (0, 1, 2) for b in (0, 1, 2)]


@pytest.mark.parametrize(("everywhere", "link"), _COMBINATIONS)
def test_rp_filter(everywhere, link):
    """The greater of all and the link's own: 1 strict, 2 loose. ARP is kept quiet by it too."""
    case = routed(
        replace(OVER, bound="192.0.2.9"),
        sysctls=(
            ("net.ipv4.conf.all.rp_filter", everywhere),
            ("net.ipv4.conf.in0.rp_filter", link),
        ),
        routes=("192.0.2.0/24 dev out0",),
        guest=Stack(
            "guest",
            routes=("default via 10.0.1.1",),
            extra=("addr add 192.0.2.9/32 dev eth0",),
            sysctls=(("net.ipv4.conf.all.arp_announce", 2),),
        ),
    )
    strict = max(everywhere, link) == 1
    assert fate_of(case).startswith("request dropped rp-filter" if strict else "reply ")


@pytest.mark.parametrize("mode", [1, 2])
def test_rp_filter_without_any_way_back(mode):
    """Loose is not off: some way back there must be. It shows as ARP that is not answered."""
    case = routed(
        replace(OVER, bound="192.0.2.9"),
        sysctls=(("net.ipv4.conf.all.rp_filter", mode),),
        guest=Stack(
            "guest",
            routes=("default via 10.0.1.1",),
            extra=("addr add 192.0.2.9/32 dev eth0",),
        ),
    )
    assert fate_of(case) == "request unresolved rp-filter"


_MARKING = Table(
    "iptables",
    "ip",
    "mangle",
    (Chain("PREROUTING", (Rule((("iif", "in0", False),), ("mark", "7")),), "prerouting"),),
)


@pytest.mark.parametrize(
    ("valid_mark", "rule", "fate"),
    [
        (0, "fwmark 7", "request dropped rp-filter"),
        (1, "fwmark 7", "reply unresolved unresolved"),
        (0, "iif in0", "request dropped rp-filter"),
        (0, "iif out0", ARRIVES),
    ],
)
def test_strict_rp_filter_and_policy_rules(valid_mark, rule, fate):
    """The main table sends replies elsewhere; the right way back hangs on a policy rule.

    Strict looks without the mark unless src_valid_mark is on, and as if coming in by the link
    the packet is to leave by. (With the mark the request passes, and its reply, which bears
    none, goes astray.)
    """
    mac = "02:00:00:00:01:01"
    case = routed(
        OVER,
        sysctls=(
            ("net.ipv4.conf.in0.rp_filter", 1),
            ("net.ipv4.conf.all.src_valid_mark", valid_mark),
        ),
        routes=(
            "10.0.1.2/32 dev out0",
            "10.0.1.0/24 dev in0 table 100",
            "10.0.2.0/24 dev out0 table 100",
        ),
        rules=(f"pref 100 {rule} lookup 100",),
        tables=(_MARKING,),
        guest=Stack(
            "guest",
            routes=("default via 10.0.1.1",),
            extra=(f"neigh add 10.0.1.1 lladdr {mac} dev eth0",),
        ),
    )
    host = case.stacks[0]
    inner = replace(host.links[0], mac=mac)
    case = replace(case, stacks=(replace(host, links=(inner, host.links[1])), *case.stacks[1:]))
    assert fate_of(case) == fate


@pytest.mark.parametrize(
    ("ip_forward", "in0", "out0", "fate"),
    [
        (1, 1, 1, ARRIVES),
        (0, 1, 1, ARRIVES),
        (1, 0, 1, "request dropped forwarding-off"),
        (1, 1, 0, "reply dropped forwarding-off"),
    ],
)
def test_forwarding_is_asked_of_the_incoming_link(ip_forward, in0, out0, fate):
    """ip_forward itself only sets all links at once."""
    case = routed(
        OVER,
        sysctls=(
            (FORWARD, ip_forward),
            ("net.ipv4.conf.in0.forwarding", in0),
            ("net.ipv4.conf.out0.forwarding", out0),
        ),
    )
    assert fate_of(case) == fate


@pytest.mark.parametrize(
    ("route", "fate"),
    [
        ("blackhole 10.0.2.2/32", "request dropped no-route"),
        ("unreachable 10.0.2.2/32", "request no-route no-route"),
        ("prohibit 10.0.2.2/32", "request no-route no-route"),
        ("throw 10.0.2.2/32", "request no-route no-route"),
        ("10.0.2.2/32 via 10.0.1.99", "request unresolved unresolved"),
        ("10.0.2.2/32 via 10.0.1.2", "request rejected ttl"),
    ],
)
def test_routes_that_lead_nowhere(route, fate):
    """Holes, refusals, a dead gateway and a circle."""
    guest = Stack("guest", routes=("default via 10.0.1.1",), sysctls=((FORWARD, 1),))
    if fate.endswith("ttl"):
        # The guest gets its own packet back: a martian, unless it may.
        guest = replace(guest, sysctls=(*guest.sysctls, ("net.ipv4.conf.all.accept_local", 1)))
    assert fate_of(routed(OVER, routes=(route,), guest=guest)) == fate


def test_a_mark_routes_again_only_from_route_chains():
    """The mangle OUTPUT of iptables does, an nft filter chain does not."""
    mark = Rule((), ("mark", "7"))
    guest = Stack("guest", routes=("default via 10.0.1.1",), rules=("pref 9 fwmark 7 blackhole",))
    plain = replace(guest, tables=(nft("ip", "output", mark, priority=-150),))
    assert fate_of(routed(OVER, guest=plain)) == ARRIVES
    mangle = Table("iptables", "ip", "mangle", (Chain("OUTPUT", (mark,), "output"),))
    routing = replace(guest, tables=(mangle,))
    assert fate_of(routed(OVER, guest=routing)) != ARRIVES
    routing = replace(guest, tables=(nft("ip", "output", mark, kind="route", priority=-150),))
    assert fate_of(routed(OVER, guest=routing)) != ARRIVES


@pytest.mark.parametrize(
    ("proto", "fate"),
    [("udp", "request dropped no-route"), ("tcp", "request dropped no-route"), ("icmp", ARRIVES)],
)
def test_a_rule_for_the_source_when_none_is_named(proto, fate):
    """A connecting socket looks again with the source it got; a ping is sent as first found."""
    guest = Stack(
        "guest",
        routes=("default via 10.0.1.1",),
        rules=("pref 100 from 10.0.1.2 to 10.0.2.0/24 blackhole",),
    )
    port = None if proto == "icmp" else 80
    assert fate_of(routed(Ask("guest", "10.0.2.2", proto, port), guest=guest)) == fate


@pytest.mark.parametrize("proto", ["tcp", "udp"])
def test_nobody_listens(proto):
    """The packet arrives and is turned down."""
    fate = fate_of(routed(Ask("guest", "10.0.2.2", proto, 9)))
    assert fate == "request rejected no-listener"


@pytest.mark.parametrize(("size", "fate"), [(1400, ARRIVES), (1401, "request rejected mtu")])
@pytest.mark.parametrize("near", [True, False])
def test_a_link_that_takes_less(near, size, fate):
    """What may not be cut up is refused: at once by the sender itself, or by the router."""
    case = routed(replace(OVER, size=size))
    small = ("in0", "eth0") if near else ("out0", "eth0")
    stacks = tuple(
        replace(
            stack,
            links=tuple(
                replace(link, mtu=1400)
                if link.name == small[stack.name != "host"] and stack.name != leave
                else link
                for link in stack.links
            ),
        )
        for leave in ("far" if near else "guest",)
        for stack in case.stacks
    )
    assert fate_of(replace(case, stacks=stacks)) == fate


@pytest.mark.parametrize(
    ("ignore", "fate"), [(1, "request dropped no-listener"), (0, "reply dropped no-listener")]
)
def test_a_directed_broadcast(ignore, fate):
    """The router takes it for itself, and few answer; then not from where they were asked."""
    sysctls = (("net.ipv4.icmp_echo_ignore_broadcasts", ignore),)
    assert fate_of(routed(Ask("guest", "10.0.2.255"), sysctls=sysctls)) == fate
