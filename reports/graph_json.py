"""The topology as one JSON object: nodes and edges, for other programs to draw."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from kvmdiag.reports.graph_names import names
from kvmdiag.topology.build import node_of
from kvmdiag.topology.parts import Edge, LinkNode, NatNode, StackNode

if TYPE_CHECKING:
    from kvmdiag.topology.build import Graph

SCHEMA = "kvmdiag.graph/1"
_KIND = {StackNode: "stack", LinkNode: "link", NatNode: "nat"}


def render(graph: Graph, *, verbose: int = 0) -> str:  # noqa: ARG001 - JSON tells all
    """The object as indented ASCII text."""
    ids = names(graph, verbose=1)
    nodes: list[dict[str, Any]] = []
    for key, name in ids.items():
        node = node_of(graph, key)
        nodes.append({"id": name, "kind": _KIND[type(node)], **msgspec.to_builtins(node)})
    edges = []
    for start, end, data in graph.edges(data=True):
        edge: Edge = data["edge"]
        edges.append({"from": ids[start], "to": ids[end], **msgspec.to_builtins(edge)})
    return json.dumps({"schema": SCHEMA, "nodes": nodes, "edges": edges}, indent=2) + "\n"
