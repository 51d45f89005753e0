"""Known traps, each built for real: the kernel must do what is said here, and the walk as well.

``fate`` is how the walk says it ends; ``judge`` complains when the kernel did anything else.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from differential.judge import judge
from differential.plan import Ask, Bridge, Cable, Case, Chain, Link, Rule, Stack, Table

pytestmark = pytest.mark.kernel

_FORWARD = "net.ipv4.ip_forward"
_CALL = "net.bridge.bridge-nf-call-iptables"
_ARRIVES = "request delivered arrived"


def _fate(case: Case) -> str:
    """How the one question of a case ends, once kernel and walk have agreed on it."""
    verdict = judge(case)
    assert not verdict.complaints, "\n".join(verdict.complaints)
    (fate,) = verdict.fates
    return fate


def _drop(*matches: tuple[str, str, bool]) -> Rule:
    return Rule(matches, ("drop",))


def _iptables(name: str, chain: str, *rules: Rule, policy: str = "accept") -> Table:
    kind = "nat" if name == "nat" else "filter"
    return Table("iptables", "ip", name, (Chain(chain, rules, chain.lower(), kind, 0, policy),))


def _nft(family: str, hook: str, *rules: Rule, kind: str = "filter", priority: int = 0) -> Table:
    return Table("nft", family, f"t_{hook}", (Chain("c", rules, hook, kind, priority),))


def _bridged(ask: Ask, *, ports: tuple[tuple[str, ...], ...] = ((), ()), **host) -> Case:
    """Guests g1 (10.0.1.2) and g2 (10.0.1.3) on br1 (10.0.1.1) of the host."""
    guests = tuple(
        Stack(
            f"g{n}",
            links=(Link("eth0", f"10.0.1.{n + 1}/24"),),
            routes=("default via 10.0.1.1",),
        )
        for n in (1, 2)
    )
    links = tuple(Link(f"v{n}", master="br1", port=ports[n - 1]) for n in (1, 2))
    bridge = host.pop("bridge", Bridge("br1", "10.0.1.1/24"))
    cables = tuple(Cable((f"g{n}", "eth0"), ("host", f"v{n}")) for n in (1, 2))
    stack = Stack("host", links=links, bridges=(bridge,), **host)
    return Case((stack, *guests), cables, (ask,))


def _routed(ask: Ask, *, guest: Stack | None = None, far: Stack | None = None, **host) -> Case:
    """Guest 10.0.1.2, the host 10.0.1.1 and 10.0.2.1, far 10.0.2.2."""
    sysctls = ((_FORWARD, 1), *host.pop("sysctls", ()))
    links = (Link("in0", "10.0.1.1/24"), Link("out0", "10.0.2.1/24"))
    stack = Stack("host", links=links, sysctls=sysctls, **host)
    own = guest or Stack("guest", routes=("default via 10.0.1.1",))
    own = replace(own, links=(Link("eth0", "10.0.1.2/24"),))
    other = far or Stack("far", routes=("default via 10.0.2.1",))
    other = replace(other, links=(Link("eth0", "10.0.2.2/24"),))
    cables = (
        Cable(("guest", "eth0"), ("host", "in0")),
        Cable(("far", "eth0"), ("host", "out0")),
    )
    return Case((stack, own, other), cables, (ask,))


_ACROSS = Ask("g1", "10.0.1.3")
_OVER = Ask("guest", "10.0.2.2")


@pytest.mark.parametrize(
    ("sysctl", "flag", "seen"),
    [(0, False, False), (0, True, True), (1, False, True), (1, True, True)],
)
@pytest.mark.parametrize("backend", ["legacy", "iptables", "nft"])
def test_when_bridged_frames_meet_forward(sysctl, flag, seen, backend):
    """br_netfilter: the sysctl or the bridge's flag; every backend alike, forwarding or not."""
    if backend == "nft":
        table = _nft("inet", "forward", _drop(("iif", "br1", False), ("oif", "br1", False)))
    else:
        table = replace(_iptables("filter", "FORWARD", policy="drop"), backend=backend)
    case = _bridged(
        _ACROSS,
        bridge=Bridge("br1", "10.0.1.1/24", nf_call=flag),
        sysctls=((_CALL, sysctl),),
        tables=(table,),
    )
    assert _fate(case) == ("request dropped netfilter" if seen else _ARRIVES)


@pytest.mark.parametrize(
    ("rule", "fate"),
    [
        (_drop(("iif", "v1", False)), _ARRIVES),
        (_drop(("physin", "v1", False)), "request dropped netfilter"),
        (_drop(("physout", "v1", False)), "reply dropped netfilter"),
        (_drop(("bridged", "", True)), _ARRIVES),
    ],
)
def test_ports_are_known_to_physdev_alone(rule, fate):
    """The incoming device of a bridged frame is the bridge."""
    table = _iptables("filter", "FORWARD", rule)
    assert _fate(_bridged(_ACROSS, sysctls=((_CALL, 1),), tables=(table,))) == fate


@pytest.mark.parametrize("address", ["10.0.1.1/24", None])
@pytest.mark.parametrize(
    "rule",
    [
        Rule((("saddr", "10.0.1.0/24", False),), ("masquerade",)),
        Rule((("oif", "br1", False),), ("masquerade",)),
        Rule((("oif", "v2", False),), ("masquerade",)),
        Rule((("saddr", "10.0.1.0/24", False), ("daddr", "10.0.1.0/24", True)), ("masquerade",)),
    ],
)
def test_masquerade_and_bridged_frames(address, rule):
    """Guests of one network are translated where the rule lets it; without address, lost."""
    case = _bridged(
        _ACROSS,
        bridge=Bridge("br1", address),
        sysctls=((_CALL, 1), (_FORWARD, 1)),
        tables=(_iptables("nat", "POSTROUTING", rule),),
        extra=("link add other0 type veth peer name other1", "link set other0 up",
               "addr add 192.0.2.1/24 dev other0"),
    )  # fmt: skip
    rewritten = rule.matches[-1][2] is False and rule.matches[0][1] != "v2"
    if address is None and rewritten:
        assert _fate(case) != _ARRIVES
    else:
        assert _fate(case) == _ARRIVES


@pytest.mark.parametrize(
    ("forwarding", "fate"), [(1, _ARRIVES), (0, "reply dropped forwarding-off")]
)
def test_a_translated_reply_needs_forwarding(forwarding, fate):
    """Bridged, and yet: where the destination changes the frame is routed (ip_route_input)."""
    rule = Rule((("oif", "br1", False),), ("masquerade",))
    table = _iptables("nat", "POSTROUTING", rule)
    sysctls = ((_CALL, 1), (_FORWARD, forwarding))
    assert _fate(_bridged(_ACROSS, sysctls=sysctls, tables=(table,))) == fate


@pytest.mark.parametrize(
    ("forwarding", "fate"), [(1, _ARRIVES), (0, "request dropped forwarding-off")]
)
def test_dnat_of_a_bridged_frame(forwarding, fate):
    """PREROUTING redirects it to another guest of the same bridge."""
    rule = Rule((("daddr", "10.0.1.77", False),), ("dnat", "10.0.1.3"))
    case = _bridged(
        Ask("g1", "10.0.1.77"),
        sysctls=((_CALL, 1), (_FORWARD, forwarding)),
        tables=(_iptables("nat", "PREROUTING", rule),),
    )
    guest = replace(
        case.stacks[1], extra=("neigh add 10.0.1.77 lladdr 02:00:00:00:00:77 dev eth0",)
    )
    case = replace(case, stacks=(case.stacks[0], guest, case.stacks[2]))
    assert _fate(case) == fate


@pytest.mark.parametrize(
    ("ports", "fate"),
    [
        ((("isolated", "on"), ("isolated", "on")), "request unresolved isolated"),
        ((("isolated", "on"), ()), _ARRIVES),
        (((), ("learning", "off")), _ARRIVES),
        (((), ("flood", "off")), _ARRIVES),
        (((), ("hairpin", "on")), _ARRIVES),
    ],
)
def test_ports(ports, fate):
    """Two isolated ports, one isolated port, port states, learning and flooding."""
    assert _fate(_bridged(_ACROSS, ports=ports)) == fate


def test_a_port_that_listens_forwards_nothing():
    """Spanning tree: for the forward delay a new port neither learns nor forwards."""
    case = _bridged(_ACROSS, bridge=Bridge("br1", "10.0.1.1/24", stp=True))
    assert _fate(case) == "request unresolved port-state"


@pytest.mark.parametrize(
    ("port", "fate"),
    [((), _ARRIVES), (("learning", "off"), "request dropped not-for-us")],
)
def test_fdb_entry_to_the_wrong_port(port, fate):
    """A static one moves as soon as the guest speaks, unless nothing is learned from its port."""
    case = _bridged(_ACROSS, ports=((), port))
    host, g1, g2 = case.stacks
    mac = "02:00:00:00:01:02"
    g2 = replace(g2, links=(replace(g2.links[0], mac=mac),))
    third = Stack("g3", links=(Link("eth0", "10.0.1.4/24"),))
    host = replace(host, links=(*host.links, Link("v3", master="br1")), fdb=(("v3", mac),))
    cables = (*case.cables, Cable(("g3", "eth0"), ("host", "v3")))
    assert _fate(Case((host, g1, g2, third), cables, case.asks)) == fate


_COMBINATIONS = [(a, b) for a in (0, 1, 2) for b in (0, 1, 2)]


@pytest.mark.parametrize(("everywhere", "link"), _COMBINATIONS)
def test_rp_filter(everywhere, link):
    """The greater of all and the link's own: 1 strict, 2 loose. ARP is kept quiet by it too."""
    case = _routed(
        replace(_OVER, bound="192.0.2.9"),
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
    assert _fate(case).startswith("request dropped rp-filter" if strict else "reply ")


@pytest.mark.parametrize("mode", [1, 2])
def test_rp_filter_without_any_way_back(mode):
    """Loose is not off: some way back there must be. It shows as ARP that is not answered."""
    case = _routed(
        replace(_OVER, bound="192.0.2.9"),
        sysctls=(("net.ipv4.conf.all.rp_filter", mode),),
        guest=Stack(
            "guest",
            routes=("default via 10.0.1.1",),
            extra=("addr add 192.0.2.9/32 dev eth0",),
        ),
    )
    assert _fate(case) == "request unresolved rp-filter"


@pytest.mark.parametrize(("valid_mark", "fate"),
                         [(0, "request dropped rp-filter"), (1, _ARRIVES)])  # fmt: skip
def test_strict_rp_filter_and_marks(valid_mark, fate):
    """The way back needs the mark; strict looks without it, unless src_valid_mark is on."""
    mark = Table("iptables", "ip", "mangle", (
        Chain("PREROUTING", (Rule((("iif", "in0", False),), ("mark", "7")),), "prerouting"),
    ))  # fmt: skip
    case = _routed(
        _OVER,
        sysctls=(
            ("net.ipv4.conf.in0.rp_filter", 1),
            ("net.ipv4.conf.all.src_valid_mark", valid_mark),
        ),
        routes=("10.0.1.2/32 dev out0", "10.0.1.0/24 dev in0 table 100",
                "10.0.2.0/24 dev out0 table 100"),
        rules=("pref 100 fwmark 7 lookup 100", "pref 101 iif out0 lookup 100"),
        tables=(mark,),
        guest=Stack("guest", routes=("default via 10.0.1.1",),
                    extra=("neigh add 10.0.1.1 lladdr 02:00:00:00:01:01 dev eth0",)),
    )  # fmt: skip
    host = case.stacks[0]
    inner = replace(host.links[0], mac="02:00:00:00:01:01")
    case = replace(case, stacks=(replace(host, links=(inner, host.links[1])), *case.stacks[1:]))
    if valid_mark:
        # iif out0 leads the replies and the looking back alike.
        assert _fate(case) == fate
    else:
        assert _fate(case) in (fate, _ARRIVES)


@pytest.mark.parametrize(
    ("ip_forward", "in0", "out0", "fate"),
    [
        (1, 1, 1, _ARRIVES),
        (0, 1, 1, _ARRIVES),
        (1, 0, 1, "request dropped forwarding-off"),
        (1, 1, 0, "reply dropped forwarding-off"),
    ],
)
def test_forwarding_is_asked_of_the_incoming_link(ip_forward, in0, out0, fate):
    """ip_forward itself only sets all links at once."""
    case = _routed(
        _OVER,
        sysctls=(
            (_FORWARD, ip_forward),
            ("net.ipv4.conf.in0.forwarding", in0),
            ("net.ipv4.conf.out0.forwarding", out0),
        ),
    )
    assert _fate(case) == fate


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
    guest = Stack("guest", routes=("default via 10.0.1.1",), sysctls=((_FORWARD, 1),))
    if fate.endswith("ttl"):
        # The guest gets its own packet back: a martian, unless it may.
        guest = replace(guest, sysctls=(*guest.sysctls, ("net.ipv4.conf.all.accept_local", 1)))
    assert _fate(_routed(_OVER, routes=(route,), guest=guest)) == fate


@pytest.mark.parametrize(
    ("level", "fate"),
    [
        (0, _ARRIVES),
        (1, "request unresolved unresolved"),
        (2, "request unresolved unresolved"),
        (3, _ARRIVES),
        (8, "request unresolved unresolved"),
    ],
)
def test_arp_ignore(level, fate):
    """Asked for an address that is on another link."""
    guest = Stack("guest", routes=("10.0.2.0/24 dev eth0",))
    case = _routed(
        Ask("guest", "10.0.2.1"), guest=guest, sysctls=(("net.ipv4.conf.all.arp_ignore", level),)
    )
    assert _fate(case) == fate


@pytest.mark.parametrize(("proxy", "fate"),
                         [(0, "request unresolved unresolved"), (1, _ARRIVES)])  # fmt: skip
def test_proxy_arp(proxy, fate):
    """A router answers for what lies behind it, if told to."""
    guest = Stack("guest", routes=("10.0.2.0/24 dev eth0",))
    case = _routed(_OVER, guest=guest, sysctls=(("net.ipv4.conf.in0.proxy_arp", proxy),))
    assert _fate(case) == fate


@pytest.mark.parametrize("hook", ["prerouting", "forward", "postrouting"])
def test_rules_of_a_bridge_stop_arp_first(hook):
    """A rule that drops everything drops the ARP question before there is any packet."""
    case = _bridged(_ACROSS, tables=(_nft("bridge", hook, _drop()),))
    assert _fate(case) == "request unresolved netfilter"


def test_masquerade_and_its_reply():
    """The far side sees the router's address; the reply finds its way back."""
    rule = Rule((("oif", "out0", False),), ("masquerade",))
    far = Stack("far")  # it knows no way to the guest's network
    assert _fate(_routed(_OVER, far=far, tables=(_iptables("nat", "POSTROUTING", rule),))) == (
        _ARRIVES
    )
    assert _fate(_routed(_OVER, far=far)) == "reply no-route no-route"


@pytest.mark.parametrize("proto", ["icmp", "tcp", "udp"])
def test_dnat_and_redirect(proto):
    """The destination changes, and the answer seems to come from the one asked."""
    port = None if proto == "icmp" else 80
    to = "10.0.2.2" if proto == "icmp" else "10.0.2.2:8080"
    rule = Rule((("proto", proto, False), ("daddr", "10.0.1.1", False)), ("dnat", to))
    ask = Ask("guest", "10.0.1.1", proto, port)
    assert _fate(_routed(ask, tables=(_iptables("nat", "PREROUTING", rule),))) == _ARRIVES
    rule = Rule((("proto", proto, False), ("daddr", "10.0.2.2", False)), ("redirect",))
    ask = Ask("guest", "10.0.2.2", proto, port)
    assert _fate(_routed(ask, tables=(_iptables("nat", "PREROUTING", rule),))) == _ARRIVES


@pytest.mark.parametrize("snat", [True, False])
def test_hairpin(snat):
    """DNAT back into the network it came from works only with the source translated."""
    chains = (
        Chain("PREROUTING", (Rule((("daddr", "10.0.1.1", False),), ("dnat", "10.0.1.3")),),
              "prerouting", "nat"),
        Chain("POSTROUTING", (Rule((("daddr", "10.0.1.3", False),), ("masquerade",)),) * snat,
              "postrouting", "nat"),
    )  # fmt: skip
    case = _bridged(
        Ask("g1", "10.0.1.1", "tcp", 80),
        sysctls=((_FORWARD, 1), (_CALL, 0)),
        tables=(Table("iptables", "ip", "nat", chains),),
    )
    assert (_fate(case) == _ARRIVES) is snat


def test_nat_chains_are_idle_without_conntrack():
    """A drop in a nat chain does nothing until something switches conntrack on."""
    nat = _nft("ip", "prerouting", _drop(), kind="nat", priority=-100)
    assert _fate(_routed(_OVER, tables=(nat,))) == _ARRIVES
    watch = _nft("ip", "forward", Rule((("state", "invalid", False),), ("drop",)))
    assert _fate(_routed(_OVER, tables=(nat, watch))) == "request dropped netfilter"


def test_goto_goes_on_where_the_last_jump_came_from():
    """In a base chain that is its policy."""
    user = Chain("user", (Rule((("proto", "tcp", False),), ("accept",)),))
    for how, fate in (("jump", "request dropped netfilter"), ("goto", _ARRIVES)):
        base = Chain("FORWARD", (Rule((), (how, "user")), _drop()), "forward")
        table = Table("iptables", "ip", "filter", (user, base))
        assert _fate(_routed(_OVER, tables=(table,))) == fate


def test_accept_in_one_table_and_drop_in_another():
    """Every base chain has its say."""
    accept = _iptables("filter", "FORWARD", Rule())
    drop = _nft("inet", "forward", _drop(), priority=10)
    assert _fate(_routed(_OVER, tables=(accept, drop))) == "request dropped netfilter"


def test_a_mark_routes_again_only_from_route_chains():
    """The mangle OUTPUT of iptables does, an nft filter chain does not."""
    mark = Rule((), ("mark", "7"))
    guest = Stack("guest", routes=("default via 10.0.1.1",), rules=("pref 9 fwmark 7 blackhole",))
    plain = replace(guest, tables=(_nft("ip", "output", mark, priority=-150),))
    assert _fate(_routed(_OVER, guest=plain)) == _ARRIVES
    mangle = Table("iptables", "ip", "mangle", (Chain("OUTPUT", (mark,), "output"),))
    routing = replace(guest, tables=(mangle,))
    assert _fate(_routed(_OVER, guest=routing)) != _ARRIVES
    routing = replace(guest, tables=(_nft("ip", "output", mark, kind="route", priority=-150),))
    assert _fate(_routed(_OVER, guest=routing)) != _ARRIVES


def test_an_answer_without_its_question_is_invalid():
    """The firewall sees only the way back, of a TCP connection."""
    firewall = _nft("inet", "forward", Rule((("state", "invalid", False),), ("drop",)))
    case = _routed(Ask("guest", "10.0.2.2", "tcp", 80), tables=(firewall,))
    host, guest, far = case.stacks
    guest = replace(
        guest,
        links=(*guest.links, Link("eth1", "10.0.9.1/24")),
        routes=("10.0.2.2/32 via 10.0.9.2 src 10.0.1.2",),
    )
    far = replace(far, links=(*far.links, Link("eth1", "10.0.9.2/24")))
    cables = (*case.cables, Cable(("guest", "eth1"), ("far", "eth1")))
    assert _fate(Case((host, guest, far), cables, case.asks)) == "reply dropped netfilter"


def test_a_bridged_frame_is_translated_once():
    """Seen as a bridged frame first, then routed with the same tuple: nat was settled before."""
    masquerade = Rule((("oif", "out0", False),), ("masquerade",))
    host = Stack(
        "host",
        bridges=(Bridge("br1", "10.0.1.1/24"),),
        links=(Link("v1", master="br1"), Link("v2", master="br1"), Link("back0", "10.0.5.2/24"),
               Link("out0", "10.0.2.1/24")),
        sysctls=((_FORWARD, 1), (_CALL, 1)),
        tables=(_iptables("nat", "POSTROUTING", masquerade),),
    )  # fmt: skip
    guest = Stack("guest", links=(Link("eth0", "10.0.1.2/24"),), routes=("default via 10.0.1.9",))
    router = Stack(
        "router",
        links=(Link("eth0", "10.0.1.9/24"), Link("eth1", "10.0.5.1/24")),
        routes=("default via 10.0.5.2",),
        sysctls=((_FORWARD, 1),),
    )
    far = Stack("far", links=(Link("eth0", "10.0.2.2/24"),), routes=("default via 10.0.2.1",))
    cables = (
        Cable(("guest", "eth0"), ("host", "v1")),
        Cable(("router", "eth0"), ("host", "v2")),
        Cable(("router", "eth1"), ("host", "back0")),
        Cable(("far", "eth0"), ("host", "out0")),
    )
    assert _fate(Case((host, guest, router, far), cables, (_OVER,))) == _ARRIVES


def test_a_neighbour_that_asked_is_known():
    """The guest answers no ARP, but its own question has told the host where it is."""
    guest = Stack(
        "guest",
        routes=("default via 10.0.1.1",),
        sysctls=(("net.ipv4.conf.all.arp_ignore", 8),),
    )
    assert _fate(_routed(_OVER, guest=guest)) == _ARRIVES
    assert _fate(_routed(Ask("far", "10.0.1.2"), guest=guest)) == "request unresolved unresolved"


def test_a_route_out_of_a_bridge_port():
    """Answers that come in by a port go to its bridge: the address was left on the NIC."""
    case = _bridged(
        Ask("host", "10.0.1.2"),
        bridge=Bridge("br1"),
        extra=("addr add 10.0.1.1/24 dev v1",),
    )
    assert _fate(case) == "request unresolved unresolved"


@pytest.mark.parametrize(
    ("proto", "fate"),
    [("udp", "request dropped no-route"), ("tcp", "request dropped no-route"), ("icmp", _ARRIVES)],
)
def test_a_rule_for_the_source_when_none_is_named(proto, fate):
    """A connecting socket looks again with the source it got; a ping is sent as first found."""
    guest = Stack(
        "guest",
        routes=("default via 10.0.1.1",),
        rules=("pref 100 from 10.0.1.2 to 10.0.2.0/24 blackhole",),
    )
    port = None if proto == "icmp" else 80
    assert _fate(_routed(Ask("guest", "10.0.2.2", proto, port), guest=guest)) == fate


@pytest.mark.parametrize("backend", ["legacy", "iptables"])
def test_before_conntrack_a_packet_is_invalid(backend):
    """The raw table sees packets before their connection is known."""
    rule = Rule((("state", "invalid", False),), ("drop",))
    table = Table(backend, "ip", "raw", (Chain("PREROUTING", (rule,), "prerouting"),))
    assert _fate(_routed(_OVER, tables=(table,))) == "request dropped netfilter"


@pytest.mark.parametrize("proto", ["tcp", "udp"])
def test_nobody_listens(proto):
    """The packet arrives and is turned down."""
    fate = _fate(_routed(Ask("guest", "10.0.2.2", proto, 9)))
    assert fate == "request rejected no-listener"


@pytest.mark.parametrize("hook", ["ingress", "egress"])
@pytest.mark.parametrize(
    ("match", "fate"),
    [
        (("proto", "icmp", False), "request dropped netfilter"),
        (("proto", "udp", False), _ARRIVES),
        (("icmp", "echo-reply", False), _ARRIVES),
        (None, "request unresolved netfilter"),
    ],
)
def test_chains_that_hang_on_a_link(hook, match, fate):
    """Family netdev: frames are seen before a bridge, or IP, gets them, and after; ARP too."""
    rule = Rule((match,) if match else (), ("drop",))
    chain = Chain("c", (rule,), hook, device="v1" if hook == "ingress" else "v2")
    assert _fate(_bridged(_ACROSS, tables=(Table("nft", "netdev", "t", (chain,)),))) == fate


@pytest.mark.parametrize("hook", ["input", "output"])
def test_rules_for_arp(hook):
    """A guest that takes no questions, or gives no answers."""
    case = _bridged(_ACROSS)
    table = Table("nft", "arp", "t", (Chain("c", (), hook, policy="drop"),))
    guest = replace(case.stacks[2], tables=(table,))
    case = replace(case, stacks=(*case.stacks[:2], guest))
    assert _fate(case) == "request unresolved netfilter"


@pytest.mark.parametrize(
    ("priority", "seen"),
    [
        (-200, "10.0.1.2"),
        (10, "10.0.1.2"),
    ],
)
def test_bridge_chains_after_br_netfilter(priority, seen):
    """Those of postrouting see the source before it is translated, whatever their priority."""
    masquerade = _iptables("nat", "POSTROUTING", Rule((("oif", "br1", False),), ("masquerade",)))
    drop = _nft("bridge", "postrouting", _drop(("saddr", seen, False), ("proto", "icmp", False)),
                priority=priority)  # fmt: skip
    sysctls = ((_CALL, 1), (_FORWARD, 1))
    case = _bridged(_ACROSS, sysctls=sysctls, tables=(masquerade, drop))
    assert _fate(case) == "request dropped netfilter"


@pytest.mark.parametrize(("priority", "drops"), [(-300, False), (10, True)])
def test_bridge_chains_see_a_redirected_frame_only_late(priority, drops):
    """PREROUTING of IP runs at priority 0 of the bridge's own prerouting."""
    dnat = _iptables("nat", "PREROUTING", Rule((("daddr", "10.0.1.77", False),),
                                               ("dnat", "10.0.1.3")))  # fmt: skip
    drop = _nft("bridge", "prerouting",
                _drop(("daddr", "10.0.1.3", False), ("proto", "icmp", False)),
                priority=priority)  # fmt: skip
    case = _bridged(
        Ask("g1", "10.0.1.77"), sysctls=((_CALL, 1), (_FORWARD, 1)), tables=(dnat, drop)
    )
    extra = ("neigh add 10.0.1.77 lladdr 02:00:00:00:00:77 dev eth0",)
    guest = replace(case.stacks[1], extra=extra)
    case = replace(case, stacks=(case.stacks[0], guest, case.stacks[2]))
    assert (_fate(case) == "request dropped netfilter") is drops


@pytest.mark.parametrize(
    ("link", "mtu", "call", "fate"),
    [
        ("v2", 80, 0, _ARRIVES),  # a ping has 84 bytes, and there is room for a VLAN tag
        ("v2", 79, 0, "request dropped mtu"),
        ("v2", 80, 1, "request dropped mtu"),
        ("v2", 84, 1, _ARRIVES),
        ("v1", 79, 0, "request dropped mtu"),
    ],
)
def test_sizes_in_a_bridge(link, mtu, call, fate):
    """Frames that do not fit a port are dropped without a word, on the way in as well."""
    case = _bridged(_ACROSS, sysctls=((_CALL, call),), extra=(f"link set {link} mtu {mtu}",))
    assert _fate(case) == fate


@pytest.mark.parametrize(("mtu", "fate"), [(80, _ARRIVES), (79, "request dropped mtu")])
def test_sizes_at_the_end_of_a_cable(mtu, fate):
    """The receiving end's own MTU counts."""
    far = Stack("far", routes=("default via 10.0.2.1",), extra=(f"link set eth0 mtu {mtu}",))
    assert _fate(_routed(_OVER, far=far)) == fate
