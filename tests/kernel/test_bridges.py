"""What bridges and br_netfilter do to frames, judged by the kernel."""

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


@pytest.mark.parametrize(
    ("sysctl", "flag", "seen"),
    [(0, False, False), (0, True, True), (1, False, True), (1, True, True)],
)
@pytest.mark.parametrize("backend", ["legacy", "iptables", "nft"])
def test_when_bridged_frames_meet_forward(sysctl, flag, seen, backend):
    """br_netfilter: the sysctl or the bridge's flag; every backend alike, forwarding or not."""
    if backend == "nft":
        table = nft("inet", "forward", drop(("iif", "br1", False), ("oif", "br1", False)))
    else:
        table = replace(iptables("filter", "FORWARD", policy="drop"), backend=backend)
    case = bridged(
        ACROSS,
        bridge=Bridge("br1", "10.0.1.1/24", nf_call=flag),
        sysctls=((CALL, sysctl),),
        tables=(table,),
    )
    assert fate_of(case) == ("request dropped netfilter" if seen else ARRIVES)


@pytest.mark.parametrize(
    ("rule", "fate"),
    [
        (drop(("iif", "v1", False)), ARRIVES),
        (drop(("physin", "v1", False)), "request dropped netfilter"),
        (drop(("physout", "v1", False)), "reply dropped netfilter"),
        (drop(("bridged", "", True)), ARRIVES),
    ],
)
def test_ports_are_known_to_physdev_alone(rule, fate):
    """The incoming device of a bridged frame is the bridge."""
    table = iptables("filter", "FORWARD", rule)
    assert fate_of(bridged(ACROSS, sysctls=((CALL, 1),), tables=(table,))) == fate


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
    case = bridged(
        ACROSS,
        bridge=Bridge("br1", address),
        sysctls=((CALL, 1), (FORWARD, 1)),
        tables=(iptables("nat", "POSTROUTING", rule),),
        extra=(
            "link add other0 type veth peer name other1",
            "link set other0 up",
            "addr add 192.0.2.1/24 dev other0",
        ),
    )
    rewritten = rule.matches[-1][2] is False and rule.matches[0][1] != "v2"
    if address is None and rewritten:
        assert fate_of(case) != ARRIVES
    else:
        assert fate_of(case) == ARRIVES


@pytest.mark.parametrize(
    ("forwarding", "fate"), [(1, ARRIVES), (0, "reply dropped forwarding-off")]
)
def test_a_translated_reply_needs_forwarding(forwarding, fate):
    """Bridged, and yet: where the destination changes the frame is routed (ip_route_input)."""
    rule = Rule((("oif", "br1", False),), ("masquerade",))
    table = iptables("nat", "POSTROUTING", rule)
    sysctls = ((CALL, 1), (FORWARD, forwarding))
    assert fate_of(bridged(ACROSS, sysctls=sysctls, tables=(table,))) == fate


@pytest.mark.parametrize(
    ("forwarding", "fate"), [(1, ARRIVES), (0, "request dropped forwarding-off")]
)
def test_dnat_of_a_bridged_frame(forwarding, fate):
    """PREROUTING redirects it to another guest of the same bridge."""
    rule = Rule((("daddr", "10.0.1.77", False),), ("dnat", "10.0.1.3"))
    case = bridged(
        Ask("g1", "10.0.1.77"),
        sysctls=((CALL, 1), (FORWARD, forwarding)),
        tables=(iptables("nat", "PREROUTING", rule),),
    )
    guest = replace(
        case.stacks[1], extra=("neigh add 10.0.1.77 lladdr 02:00:00:00:00:77 dev eth0",)
    )
    case = replace(case, stacks=(case.stacks[0], guest, case.stacks[2]))
    assert fate_of(case) == fate


@pytest.mark.parametrize(
    ("ports", "fate"),
    [
        ((("isolated", "on"), ("isolated", "on")), "request unresolved isolated"),
        ((("isolated", "on"), ()), ARRIVES),
        (((), ("learning", "off")), ARRIVES),
        (((), ("flood", "off")), ARRIVES),
        (((), ("hairpin", "on")), ARRIVES),
    ],
)
def test_ports(ports, fate):
    """Two isolated ports, one isolated port, port states, learning and flooding."""
    assert fate_of(bridged(ACROSS, ports=ports)) == fate


def test_a_port_that_listens_forwards_nothing():
    """Spanning tree: for the forward delay a new port neither learns nor forwards."""
    case = bridged(ACROSS, bridge=Bridge("br1", "10.0.1.1/24", stp=True))
    assert fate_of(case) == "request unresolved port-state"


@pytest.mark.parametrize(
    ("port", "fate"),
    [((), ARRIVES), (("learning", "off"), "request dropped not-for-us")],
)
def test_fdb_entry_to_the_wrong_port(port, fate):
    """A static one moves as soon as the guest speaks, unless nothing is learned from its port."""
    case = bridged(ACROSS, ports=((), port))
    host, g1, g2 = case.stacks
    mac = "02:00:00:00:01:02"
    g2 = replace(g2, links=(replace(g2.links[0], mac=mac),))
    third = Stack("g3", links=(Link("eth0", "10.0.1.4/24"),))
    host = replace(host, links=(*host.links, Link("v3", master="br1")), fdb=(("v3", mac),))
    cables = (*case.cables, Cable(("g3", "eth0"), ("host", "v3")))
    assert fate_of(Case((host, g1, g2, third), cables, case.asks)) == fate


def test_a_bridged_frame_is_translated_once():
    """Seen as a bridged frame first, then routed with the same tuple: nat was settled before."""
    masquerade = Rule((("oif", "out0", False),), ("masquerade",))
    host = Stack(
        "host",
        bridges=(Bridge("br1", "10.0.1.1/24"),),
        links=(
            Link("v1", master="br1"),
            Link("v2", master="br1"),
            Link("back0", "10.0.5.2/24"),
            Link("out0", "10.0.2.1/24"),
        ),
        sysctls=((FORWARD, 1), (CALL, 1)),
        tables=(iptables("nat", "POSTROUTING", masquerade),),
    )
    guest = Stack("guest", links=(Link("eth0", "10.0.1.2/24"),), routes=("default via 10.0.1.9",))
    router = Stack(
        "router",
        links=(Link("eth0", "10.0.1.9/24"), Link("eth1", "10.0.5.1/24")),
        routes=("default via 10.0.5.2",),
        sysctls=((FORWARD, 1),),
    )
    far = Stack("far", links=(Link("eth0", "10.0.2.2/24"),), routes=("default via 10.0.2.1",))
    cables = (
        Cable(("guest", "eth0"), ("host", "v1")),
        Cable(("router", "eth0"), ("host", "v2")),
        Cable(("router", "eth1"), ("host", "back0")),
        Cable(("far", "eth0"), ("host", "out0")),
    )
    assert fate_of(Case((host, guest, router, far), cables, (OVER,))) == ARRIVES


@pytest.mark.parametrize("hook", ["ingress", "egress"])
@pytest.mark.parametrize(
    ("match", "fate"),
    [
        (("proto", "icmp", False), "request dropped netfilter"),
        (("proto", "udp", False), ARRIVES),
        (("icmp", "echo-reply", False), ARRIVES),
        (None, "request unresolved netfilter"),
    ],
)
def test_chains_that_hang_on_a_link(hook, match, fate):
    """Family netdev: frames are seen before a bridge, or IP, gets them, and after; ARP too."""
    rule = Rule((match,) if match else (), ("drop",))
    chain = Chain("c", (rule,), hook, device="v1" if hook == "ingress" else "v2")
    assert fate_of(bridged(ACROSS, tables=(Table("nft", "netdev", "t", (chain,)),))) == fate


@pytest.mark.parametrize(
    ("priority", "seen"),
    [
        (-200, "10.0.1.2"),
        (10, "10.0.1.2"),
    ],
)
def test_bridge_chains_after_br_netfilter(priority, seen):
    """Those of postrouting see the source before it is translated, whatever their priority."""
    masquerade = iptables("nat", "POSTROUTING", Rule((("oif", "br1", False),), ("masquerade",)))
    late = nft(
        "bridge",
        "postrouting",
        drop(("saddr", seen, False), ("proto", "icmp", False)),
        priority=priority,
    )
    sysctls = ((CALL, 1), (FORWARD, 1))
    case = bridged(ACROSS, sysctls=sysctls, tables=(masquerade, late))
    assert fate_of(case) == "request dropped netfilter"


@pytest.mark.parametrize(("priority", "drops"), [(-300, False), (10, True)])
def test_bridge_chains_see_a_redirected_frame_only_late(priority, drops):
    """PREROUTING of IP runs at priority 0 of the bridge's own prerouting."""
    dnat = iptables(
        "nat", "PREROUTING", Rule((("daddr", "10.0.1.77", False),), ("dnat", "10.0.1.3"))
    )
    late = nft(
        "bridge",
        "prerouting",
        drop(("daddr", "10.0.1.3", False), ("proto", "icmp", False)),
        priority=priority,
    )
    case = bridged(Ask("g1", "10.0.1.77"), sysctls=((CALL, 1), (FORWARD, 1)), tables=(dnat, late))
    extra = ("neigh add 10.0.1.77 lladdr 02:00:00:00:00:77 dev eth0",)
    guest = replace(case.stacks[1], extra=extra)
    case = replace(case, stacks=(case.stacks[0], guest, case.stacks[2]))
    assert (fate_of(case) == "request dropped netfilter") is drops


@pytest.mark.parametrize(
    ("link", "mtu", "call", "fate"),
    [
        ("v2", 80, 0, ARRIVES),  # a ping has 84 bytes, and there is room for a VLAN tag
        ("v2", 79, 0, "request dropped mtu"),
        ("v2", 80, 1, "request dropped mtu"),
        ("v2", 84, 1, ARRIVES),
        ("v1", 79, 0, "request dropped mtu"),
    ],
)
def test_sizes_in_a_bridge(link, mtu, call, fate):
    """Frames that do not fit a port are dropped without a word, on the way in as well."""
    case = bridged(ACROSS, sysctls=((CALL, call),), extra=(f"link set {link} mtu {mtu}",))
    assert fate_of(case) == fate


@pytest.mark.parametrize(("mtu", "fate"), [(80, ARRIVES), (79, "request dropped mtu")])
def test_sizes_at_the_end_of_a_cable(mtu, fate):
    """The receiving end's own MTU counts."""
    far = Stack("far", routes=("default via 10.0.2.1",), extra=(f"link set eth0 mtu {mtu}",))
    assert fate_of(routed(OVER, far=far)) == fate


def test_a_routed_packet_that_came_over_a_bridge_has_no_port_to_leave_by():
    """Even "not by v2" is not true of it; of the reply, which met no bridge yet, it is."""
    case = bridged(
        Ask("g1", "10.0.2.2"),
        sysctls=((CALL, 1), (FORWARD, 1)),
        tables=(iptables("mangle", "POSTROUTING", drop(("physout", "v2", True))),),
    )
    host = replace(case.stacks[0], links=(*case.stacks[0].links, Link("up0", "10.0.2.1/24")))
    far = Stack("far", links=(Link("eth0", "10.0.2.2/24"),), routes=("default via 10.0.2.1",))
    cables = (*case.cables, Cable(("far", "eth0"), ("host", "up0")))
    assert (
        fate_of(Case((host, *case.stacks[1:], far), cables, case.asks)) == "reply dropped netfilter"
    )
