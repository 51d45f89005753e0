"""The topology as a Mermaid flowchart, for Markdown pages (mermaid.js.org, flowchart syntax)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvmdiag.reports.escape import safe
from kvmdiag.reports.graph_names import drawn_edges, members, names, node_label
from kvmdiag.topology.build import edges_of, node_of
from kvmdiag.topology.parts import EdgeKind, LinkNode, NatNode, Node, StackNode

if TYPE_CHECKING:
    from kvmdiag.topology.build import Graph

_ARROW = {
    EdgeKind.PORT: "---",
    EdgeKind.LOWER: "-.-",
    EdgeKind.CABLE: "===",
    EdgeKind.NAT: "-.->",
}
# Mermaid reads Markdown, HTML and its own entities within quotes; all of their signs are
# written as numeric entities (``#35;``), which it always shows literally.
_ENTITIES = {ord(sign): f"#{ord(sign)};" for sign in "#\"'`<>&;\\*_~|[]{}()$%@"}


def render(graph: Graph, *, verbose: int = 0) -> str:
    """A ``flowchart`` with a subgraph per stack; loopback devices only with ``verbose``."""
    ids = names(graph, verbose)
    lines = ["flowchart LR"]
    ways_out = {end: edge.label for _, end, edge in edges_of(graph, EdgeKind.DEFAULT)}
    for key, name in ids.items():
        stack = node_of(graph, key)
        if not isinstance(stack, StackNode):
            continue
        inside = members(graph, key, ids)
        if not inside:
            lines.append(f"  {name}[{quoted(stack.name)}]")
            continue
        lines.append(f"  subgraph {name}[{quoted(stack.name)}]")
        for member in inside:
            node = node_of(graph, member)
            opening, closing = _shape(node)
            text = node_label(node) + ([ways_out[member]] if member in ways_out else [])
            lines.append(f"    {ids[member]}{opening}{quoted(*text)}{closing}")
        lines.append("  end")
    for start, end, edge in drawn_edges(graph, ids):
        if edge.kind is EdgeKind.DEFAULT:
            continue  # a line from a subgraph to a node within it is a cycle to Mermaid
        label = f"|{quoted(edge.label)}|" if edge.label else ""
        lines.append(f"  {ids[start]} {_ARROW[edge.kind]}{label} {ids[end]}")
    broken = [
        ids[key]
        for key in ids
        if isinstance(node := node_of(graph, key), LinkNode)
        and not (node.link.up and node.link.carrier)
    ]
    if broken:
        lines.append("  classDef broken stroke:#c00,color:#c00")
        lines.append(f"  class {','.join(broken)} broken")
    return "\n".join(lines) + "\n"


def _shape(node: Node) -> tuple[str, str]:
    if isinstance(node, NatNode):
        return "[/", "/]"
    if isinstance(node, LinkNode) and node.role == "bridge":
        return "{{", "}}"
    if isinstance(node, LinkNode) and node.role == "uplink":
        return "([", "])"
    return "[", "]"


def quoted(*lines: str) -> str:
    """A quoted label of one or more lines."""
    return '"' + "<br/>".join(safe(line).translate(_ENTITIES) for line in lines) + '"'
