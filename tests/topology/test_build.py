"""The graph of a small host: a bridge with two guests, one of them closed, and an uplink."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from kvmdiag.model.libvirt import Domain, Network
from kvmdiag.model.link import Bridge, BridgePort, Link, LinkRef, Vlan
from kvmdiag.model.matches import InterfaceIs
from kvmdiag.model.netfilter import Chain, Rule, Table
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import OWN_NETNS, Address, NextHop, Route, Stack
from kvmdiag.model.statements import Masquerade
from kvmdiag.reports import graph_dot, graph_json, graph_mermaid, graph_text
from kvmdiag.topology.build import build, edges_of, link_key, node_of, stack_key, targets
from kvmdiag.topology.parts import EdgeKind, LinkNode, StackNode

HOSTILE = 'a"];\n end\\<b>#\x1b[2J'


def host(*extra: Link) -> Stack:
    """The host, with whatever more it is to have."""
    return Stack(
        name="host",
        kind="host",
        netns=OWN_NETNS,
        links=(
            Link(index=1, name="lo", type="loopback"),
            Link(index=2, name="eno1"),
            Link(index=3, name="virbr0", kind="bridge", bridge=Bridge()),
            Link(
                index=4,
                name="vnet0",
                kind="tun",
                master="virbr0",
                port=BridgePort(),
                peer=LinkRef("web", "ens3"),
                guest="web",
            ),
            Link(index=5, name="vnet1", kind="tun", master="virbr0", up=False, guest="closed"),
            Link(index=6, name="eno1.7", kind="vlan", lower="eno1", vlan=Vlan(vid=7)),
            *extra,
        ),
        addresses=(
            Address(link="eno1", address="10.0.0.10", prefix_length=24),
            Address(link="virbr0", address="192.168.122.1", prefix_length=24),
        ),
        routes=(
            Route(
                destination="0.0.0.0/0",
                next_hops=(NextHop(link="eno1", gateway="10.0.0.1"),),
            ),
        ),
        tables=(
            Table(
                family="ip",
                name="nat",
                backend="iptables-nft",
                chains=(
                    Chain(
                        name="POSTROUTING",
                        hook="postrouting",
                        type="nat",
                        rules=(
                            Rule(
                                body=(
                                    InterfaceIs(direction="out", names=("eno1",)),
                                    Masquerade(),
                                ),
                                text="-o eno1 -j MASQUERADE",
                            ),
                        ),
                    ),
                ),
            ),
        ),
    )


def snapshot(*extra: Link) -> Snapshot:
    """The host and a guest that can be seen into."""
    web = Stack(
        name="web",
        kind="guest",
        netns=None,
        links=(Link(index=2, name="ens3"),),
        addresses=None,
    )
    return Snapshot(
        tool="0",
        taken_at="2026-01-01T00:00:00Z",
        kernel="6",
        stacks=(host(*extra), web),
        domains=(Domain(name="web", state="running"), Domain(name="off", state="shutoff")),
        networks=(Network(name="default", active=True, bridge="virbr0"),),
    )


@pytest.mark.parametrize(
    ("kind", "start", "end"),
    [
        (EdgeKind.HAS, stack_key("host"), link_key("host", "eno1")),
        (EdgeKind.PORT, link_key("host", "vnet0"), link_key("host", "virbr0")),
        (EdgeKind.LOWER, link_key("host", "eno1.7"), link_key("host", "eno1")),
        (EdgeKind.CABLE, link_key("host", "vnet0"), link_key("web", "ens3")),
        (EdgeKind.CABLE, link_key("web", "ens3"), link_key("host", "vnet0")),
        (EdgeKind.CABLE, link_key("host", "vnet1"), stack_key("closed")),
        (EdgeKind.DEFAULT, stack_key("host"), link_key("host", "eno1")),
        (EdgeKind.HAS, stack_key("host"), ("nat", "host", "0")),
        (EdgeKind.NAT, ("nat", "host", "0"), link_key("host", "eno1")),
    ],
)
def test_edges(kind: EdgeKind, start: tuple[str, ...], end: tuple[str, ...]) -> None:
    """Ports, cables both ways, VLANs, default routes and NAT are joined as they are wired."""
    assert targets(build(snapshot()), start, kind).count(end) == 1


def test_roles_and_attributes() -> None:
    """A link says what it is, its addresses, and libvirt's network; unread is not empty."""
    graph = build(snapshot())
    bridge = node_of(graph, link_key("host", "virbr0"))
    assert isinstance(bridge, LinkNode)
    assert (bridge.role, bridge.network, bridge.addresses) == (
        "bridge",
        "default",
        ("192.168.122.1/24",),
    )
    inside = node_of(graph, link_key("web", "ens3"))
    assert isinstance(inside, LinkNode)
    assert inside.addresses is None
    roles = {
        name: node.role
        for name in ("eno1", "vnet1", "lo")
        if isinstance(node := node_of(graph, link_key("host", name)), LinkNode)
    }
    assert roles == {"eno1": "uplink", "vnet1": "tap", "lo": "loopback"}


def test_guests_known_from_outside_only_are_there() -> None:
    """A guest behind a tap, and one that is shut off, are nodes marked as not seen."""
    graph = build(snapshot())
    assert node_of(graph, stack_key("closed")) == StackNode(name="closed", kind="guest", seen=False)
    off = StackNode(name="off", kind="guest", state="shutoff", seen=False)
    assert node_of(graph, stack_key("off")) == off


def test_unread_links_are_no_links() -> None:
    """A stack of which nothing could be read is a node, and nothing is made up for it."""
    bare = Snapshot(
        tool="0",
        taken_at="",
        kernel="",
        stacks=(Stack(name="host", kind="host", netns=OWN_NETNS),),
    )
    assert list(build(bare)) == [stack_key("host")]


def drawn_text(facts: Snapshot) -> str:
    """The tree on a wide terminal."""
    page = io.StringIO()
    Console(width=120, file=page, highlight=False).print(graph_text.render(build(facts)))
    return "".join(line.rstrip() + "\n" for line in page.getvalue().splitlines())


def test_text_is_a_tree() -> None:
    """Host, bridge, port, guest: what hangs on what."""
    assert drawn_text(snapshot()) == TREE


TREE = """\
host  this machine
├── eno1  uplink  10.0.0.10/24  default via 10.0.0.1
│   └── eno1.7  vlan
├── virbr0  bridge of libvirt network default  192.168.122.1/24
│   ├── vnet0  tap ── web ens3
│   └── vnet1  tap  down ── closed
└── NAT -o eno1 -j MASQUERADE  iptables-nft ip nat POSTROUTING

web  guest, running
└── ens3  NIC ── host vnet0

closed  guest, inside not visible
└── wired to host vnet1

off  guest, shutoff, inside not visible
"""


def hostile() -> Snapshot:
    """A link whose name is meant to break out of quotes, and that is its own master."""
    return snapshot(Link(index=9, name=HOSTILE, kind="bridge", master=HOSTILE))


def test_dot_stays_within_quotes() -> None:
    """Without its quoted strings the picture holds nothing a name could have put there."""
    drawn = graph_dot.render(build(hostile()))
    outside, inside, escaped = [], False, False
    for sign in drawn:
        if inside:
            inside = escaped or sign != '"'
            escaped = sign == "\\" and not escaped
        elif sign == '"':
            inside = True
        else:
            outside.append(sign)
    assert not inside
    assert set("".join(outside)) <= set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_ \n{}[]=;,->"
    )
    assert drawn.count("{") == drawn.count("}") == 1 + 4
    assert "\x1b" not in drawn


def test_mermaid_writes_signs_as_entities() -> None:
    """Quotes, angles and hashes of a name never reach Mermaid as such."""
    drawn = graph_mermaid.render(build(hostile()))
    line = next(line for line in drawn.splitlines() if "2J" in line)
    assert line.endswith('{{"a#34;#93;#59;#92;x0a end#92;#60;b#62;#35;#92;x1b#91;2J"}}')
    assert drawn.count("subgraph") == 2


def test_mermaid_draws_no_line_from_a_box_into_itself() -> None:
    """Mermaid refuses such a picture; the way out stands in the link's label instead."""
    drawn = graph_mermaid.render(build(snapshot()))
    assert "eno1<br/>10.0.0.10/24<br/>default via 10.0.0.1" in drawn
    assert "n0 -" not in drawn


def test_json_lists_nodes_and_edges() -> None:
    """Every edge's ends are nodes of the list."""
    graph = build(hostile())
    read = json.loads(graph_json.render(graph))
    ids = {node["id"] for node in read["nodes"]}
    assert len(ids) == len(graph)
    assert {edge[end] for edge in read["edges"] for end in ("from", "to")} <= ids
    assert len(list(edges_of(graph, EdgeKind.CABLE))) == sum(
        edge["kind"] == "cable" for edge in read["edges"]
    )


def test_a_loop_of_masters_is_drawn_all_the_same() -> None:
    """A damaged snapshot may hold one; the tree comes to an end."""
    assert drawn_text(hostile()).startswith("host")
