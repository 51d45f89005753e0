"""The topology as a Mermaid flowchart, for Markdown pages (mermaid.js.org, flowchart syntax)."""

from __future__ import annotations

from kvmdiag.reports.escape import safe
from kvmdiag.reports.graph_names import drawn_edges, members, names, node_label
from kvmdiag.topology.build import Graph, node_of
from kvmdiag.topology.parts import EdgeKind, LinkNode, NatNode, Node, StackNode

_ARROW = {
    EdgeKind.PORT: "---",
    EdgeKind.LOWER: "-.-",
    EdgeKind.CABLE: "===",
    EdgeKind.DEFAULT: "-->",
    EdgeKind.NAT: "-.->",
}
# Mermaid reads Markdown, HTML and its own entities within quotes; all of their signs are
# written as numeric entities (``#35;``), which it always shows literally.
_ENTITIES = {ord(sign): f"#{ord(sign)};" for sign in "#\"'`<>&;\\*_~|[]{}()$%@"}


def render(graph: Graph, *, verbose: int = 0) -> str:
    """A ``flowchart`` with a subgraph per stack; loopback devices only with ``verbose``."""
    ids = names(graph, verbose)
    lines = ["flowchart LR"]
    for key, name in ids.items():
        stack = node_of(graph, key)
        if not isinstance(stack, StackNode):
            continue
        lines.append(f"  subgraph {name}[{quoted(stack.name)}]")
        for member in members(graph, key, ids):
            node = node_of(graph, member)
            opening, closing = _shape(node)
            lines.append(f"    {ids[member]}{opening}{quoted(*node_label(node))}{closing}")
        lines.append("  end")
    for start, end, edge in drawn_edges(graph, ids):
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
