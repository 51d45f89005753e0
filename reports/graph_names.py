"""What the drawn formats share: identifiers, labels, and which edges are worth a line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from kvmdiag.topology.build import node_of, targets
from kvmdiag.topology.parts import Edge, EdgeKind, LinkNode, NatNode, Node, StackNode

if TYPE_CHECKING:
    from kvmdiag.topology.build import Graph, Key


def names(graph: Graph, verbose: int) -> dict[Key, str]:
    """A plain identifier for each node that is drawn: ``n0``, ``n1`` ..., in a fixed order."""
    shown = [key for key in graph if verbose or not _is_loopback(node_of(graph, key))]
    return {key: f"n{number}" for number, key in enumerate(shown)}


def _is_loopback(node: Node) -> bool:
    return isinstance(node, LinkNode) and node.role == "loopback"


def members(graph: Graph, stack: Key, ids: Mapping[Key, str]) -> list[Key]:
    """The nodes drawn within a stack."""
    return [key for key in targets(graph, stack, EdgeKind.HAS) if key in ids]


def node_label(node: Node) -> list[str]:
    """The lines of a node's label, not yet escaped."""
    if isinstance(node, StackNode):
        return [node.name]
    if isinstance(node, NatNode):
        return [f"{node.side} NAT", node.text]
    lines = [node.link.name, *(node.addresses or ())]
    if node.network is not None:
        lines.append(f"libvirt network {node.network}")
    if not node.link.up:
        lines.append("down")
    elif not node.link.carrier:
        lines.append("no carrier")
    return lines


def drawn_edges(graph: Graph, ids: Mapping[Key, str]) -> Iterator[tuple[Key, Key, Edge]]:
    """The edges to draw: what a box holds shows by itself, and a cable is one line."""
    cables: set[frozenset[Key]] = set()
    for start, end, data in graph.edges(data=True):
        edge: Edge = data["edge"]
        if edge.kind is EdgeKind.HAS or start not in ids or end not in ids:
            continue
        if edge.kind is EdgeKind.CABLE:
            if frozenset((start, end)) in cables:
                continue
            cables.add(frozenset((start, end)))
        yield start, end, edge
