"""Snapshot to graph; pure.

The graph is a :class:`networkx.MultiDiGraph` whose nodes carry a ``node`` attribute (one of
:data:`kvmdiag.topology.parts.Node`) and whose edges carry an ``edge`` attribute
(:class:`kvmdiag.topology.parts.Edge`). Keys are tuples, so that no choice of names makes two
nodes one: ``("stack", NAME)``, ``("link", STACK, NAME)``, ``("nat", STACK, NUMBER)``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Literal

import networkx as nx

from kvmdiag.model.link import Link, LinkRef
from kvmdiag.model.matches import InterfaceIs
from kvmdiag.model.netfilter import Chain, Rule, Table
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack
from kvmdiag.model.statements import DestinationNat, Masquerade, Redirect, SourceNat
from kvmdiag.topology.parts import Edge, EdgeKind, LinkNode, LinkRole, NatNode, Node, StackNode

Key = tuple[str, ...]

if TYPE_CHECKING:
    Graph = nx.MultiDiGraph[Key]

_KINDS: dict[str | None, LinkRole] = {
    "bridge": "bridge",
    "openvswitch": "bridge",
    "tun": "tap",
    "macvtap": "tap",
    "vlan": "vlan",
}


def build(snapshot: Snapshot) -> Graph:
    """The graph of everything in the snapshot that could be read."""
    graph: Graph = nx.MultiDiGraph()
    networks = {n.bridge: n.name for n in snapshot.networks or () if n.bridge}
    states = {domain.name: domain.state for domain in snapshot.domains or ()}
    for stack in snapshot.stacks:
        node = StackNode(name=stack.name, kind=stack.kind, state=states.get(stack.name))
        graph.add_node(stack_key(stack.name), node=node)
    wired = {link.peer for stack in snapshot.stacks for link in stack.links or () if link.peer}
    for stack in snapshot.stacks:
        names = networks if stack.name == snapshot.host else {}
        _add_links(graph, stack, names, wired)
        _add_default_routes(graph, stack)
        _add_nat(graph, stack)
    _add_cables(graph, snapshot)
    _add_closed_guests(graph, snapshot, states)
    return graph


def stack_key(stack: str) -> Key:
    """The key of a stack's node."""
    return ("stack", stack)


def link_key(stack: str, link: str) -> Key:
    """The key of a link's node."""
    return ("link", stack, link)


def node_of(graph: Graph, key: Key) -> Node:
    """The typed node of a key."""
    node: Node = graph.nodes[key]["node"]
    return node


def edges_of(graph: Graph, kind: EdgeKind) -> Iterator[tuple[Key, Key, Edge]]:
    """All edges of a kind with their ends."""
    for start, end, data in graph.edges(data=True):
        edge: Edge = data["edge"]
        if edge.kind is kind:
            yield start, end, edge


def targets(graph: Graph, start: Key, kind: EdgeKind) -> list[Key]:
    """Where edges of a kind lead from a node, in the order they were found."""
    return [e for _, e, data in graph.out_edges(start, data=True) if data["edge"].kind is kind]


def sources(graph: Graph, end: Key, kind: EdgeKind) -> list[Key]:
    """Where edges of a kind into a node come from, in the order they were found."""
    return [s for s, _, data in graph.in_edges(end, data=True) if data["edge"].kind is kind]


def _add_links(
    graph: Graph, stack: Stack, networks: dict[str, str], wired: Collection[LinkRef]
) -> None:
    links = {link.name: link for link in stack.links or ()}
    for link in links.values():
        addresses = None
        if stack.addresses is not None:
            addresses = tuple(a.network for a in stack.addresses if a.link == link.name)
        node = LinkNode(
            stack=stack.name,
            link=link,
            role=_role(link, wired=LinkRef(stack.name, link.name) in wired),
            addresses=addresses,
            network=networks.get(link.name),
        )
        graph.add_node(link_key(stack.name, link.name), node=node)
        _join(graph, stack_key(stack.name), link_key(stack.name, link.name), EdgeKind.HAS)
    for link in links.values():
        here = link_key(stack.name, link.name)
        if link.master in links:
            _join(graph, here, link_key(stack.name, link.master), EdgeKind.PORT)
        if link.lower in links:
            label = f"vlan {link.vlan.vid}" if link.vlan is not None else ""
            _join(graph, here, link_key(stack.name, link.lower), EdgeKind.LOWER, label)


def _role(link: Link, *, wired: bool) -> LinkRole:
    """``wired`` tells that another link is known to lead here, which is no way out then."""
    if link.is_loopback:
        return "loopback"
    if link.kind in _KINDS:
        return _KINDS[link.kind]
    if link.guest is not None:
        return "tap"
    if link.is_uplink and not wired:
        return "uplink"
    return "veth" if link.kind == "veth" else "link"


def _add_default_routes(graph: Graph, stack: Stack) -> None:
    for route in stack.routes or ():
        if route.destination not in ("0.0.0.0/0", "::/0") or route.type != "unicast":
            continue
        for hop in route.next_hops:
            if hop.link is None or link_key(stack.name, hop.link) not in graph:
                continue
            label = f"default via {hop.gateway}" if hop.gateway else "default"
            label += f" table {route.table}" if route.table != 254 else ""
            here, there = stack_key(stack.name), link_key(stack.name, hop.link)
            _join(graph, here, there, EdgeKind.DEFAULT, label)


def _add_nat(graph: Graph, stack: Stack) -> None:
    rules = (
        (table, chain, rule)
        for table in stack.tables or ()
        for chain in table.chains
        for rule in chain.rules
    )
    number = 0
    for table, chain, rule in rules:
        side = _side(rule)
        if side is None:
            continue
        key = ("nat", stack.name, str(number))
        number += 1
        node = NatNode(stack=stack.name, side=side, place=_place(table, chain), text=rule.text)
        graph.add_node(key, node=node)
        _join(graph, stack_key(stack.name), key, EdgeKind.HAS)
        wanted = "out" if side == "source" else "in"
        for part in rule.body:
            if isinstance(part, InterfaceIs) and part.direction == wanted and not part.negate:
                for name in part.names:
                    if link_key(stack.name, name) in graph:
                        _join(graph, key, link_key(stack.name, name), EdgeKind.NAT)


def _side(rule: Rule) -> Literal["source", "destination"] | None:
    for part in rule.body:
        if isinstance(part, SourceNat | Masquerade):
            return "source"
        if isinstance(part, DestinationNat | Redirect):
            return "destination"
    return None


def _place(table: Table, chain: Chain) -> str:
    return f"{table.backend} {table.family} {table.name} {chain.name}"


def _add_cables(graph: Graph, snapshot: Snapshot) -> None:
    """Each way separately, since one end may know of the other and not the reverse."""
    for stack in snapshot.stacks:
        for link in stack.links or ():
            if link.peer is None:
                continue
            here, there = link_key(stack.name, link.name), link_key(link.peer.stack, link.peer.link)
            if there in graph:
                _join_once(graph, here, there)
                _join_once(graph, there, here)


def _join_once(graph: Graph, start: Key, end: Key) -> None:
    if end not in targets(graph, start, EdgeKind.CABLE):
        _join(graph, start, end, EdgeKind.CABLE)


def _add_closed_guests(graph: Graph, snapshot: Snapshot, states: dict[str, str]) -> None:
    """Guests that are known from outside only: from their taps, or from libvirt."""
    for stack in snapshot.stacks:
        for link in stack.links or ():
            if link.guest is None or link.peer is not None:
                continue
            key = stack_key(link.guest)
            if key not in graph:
                _add_closed(graph, link.guest, states.get(link.guest))
            _join(graph, link_key(stack.name, link.name), key, EdgeKind.CABLE)
    for name, state in states.items():
        if stack_key(name) not in graph:
            _add_closed(graph, name, state)


def _add_closed(graph: Graph, name: str, state: str | None) -> None:
    node = StackNode(name=name, kind="guest", state=state, seen=False)
    graph.add_node(stack_key(name), node=node)


def _join(graph: Graph, start: Key, end: Key, kind: EdgeKind, label: str = "") -> None:
    graph.add_edge(start, end, edge=Edge(kind=kind, label=label))
