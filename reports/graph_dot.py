"""The topology in Graphviz's language; a cluster per stack (graphviz.org/doc/info/lang.html)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmdiag.reports.escape import safe
from kvmdiag.reports.graph_names import drawn_edges, members, names, node_label
from kvmdiag.topology.build import node_of
from kvmdiag.topology.parts import EdgeKind, LinkNode, NatNode, StackNode

if TYPE_CHECKING:
    from kvmdiag.topology.build import Graph

_SHAPE = {"bridge": "hexagon", "uplink": "house", "tap": "cds", "veth": "cds"}
_EDGE = {
    EdgeKind.PORT: "dir=none",
    EdgeKind.LOWER: "dir=none, style=dashed",
    EdgeKind.CABLE: "dir=none, penwidth=2",
    EdgeKind.DEFAULT: "color=darkgreen, fontcolor=darkgreen",
    EdgeKind.NAT: "style=dotted",
}


def render(graph: Graph, *, verbose: int = 0) -> str:
    """A ``digraph``; loopback devices only with ``verbose``."""
    ids = names(graph, verbose)
    lines = [
        "digraph kvmdiag {",
        "  rankdir=LR; compound=true;",
        '  node [shape=box, fontname="sans-serif", fontsize=11];',
        '  edge [fontname="sans-serif", fontsize=9];',
    ]
    for key, name in ids.items():
        stack = node_of(graph, key)
        if not isinstance(stack, StackNode):
            continue
        lines.append(f"  subgraph cluster_{name} {{")
        lines.append(f"    label={quoted(stack.name)}; style=rounded;")
        lines.append(f"    {name} [label={quoted(stack.kind)}, shape=plaintext];")
        for member in members(graph, key, ids):
            node = node_of(graph, member)
            lines.append(f"    {ids[member]} [label={quoted(*node_label(node))}{_look(node)}];")
        lines.append("  }")
    for start, end, edge in drawn_edges(graph, ids):
        label = f", label={quoted(edge.label)}" if edge.label else ""
        lines.append(f"  {ids[start]} -> {ids[end]} [{_EDGE[edge.kind]}{label}];")
    lines.append("}")
    return "\n".join(lines) + "\n"


def _look(node: object) -> str:
    if isinstance(node, NatNode):
        return ", shape=note"
    if not isinstance(node, LinkNode):
        return ""
    trouble = "" if node.link.up and node.link.carrier else ", color=red, fontcolor=red"
    return f", shape={_SHAPE.get(node.role, 'box')}{trouble}"


def quoted(*lines: str) -> str:
    r"""A quoted string of one or more lines.

    Within quotes only ``"`` ends the string; a backslash begins an escape of its own
    (``\N``, ``\l``), so that it is doubled.
    """
    escaped = (safe(line).replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return '"' + "\\n".join(escaped) + '"'
