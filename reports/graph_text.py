"""The topology as a tree: stack, bridge, port, and what hangs on the far end of each cable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from kvmdiag.reports.layout import styled
from kvmdiag.topology.build import (
    edges_of,
    node_of,
    sources,
    stack_key,
    targets,
)
from kvmdiag.topology.parts import EdgeKind, LinkNode, NatNode, StackNode

if TYPE_CHECKING:
    from kvmdiag.topology.build import Graph, Key

_STYLE = {"bridge": "bold magenta", "tap": "cyan", "uplink": "bold green", "veth": "cyan"}
_ORDER = ("uplink", "link", "vlan", "bridge", "veth", "tap", "loopback")


def render(graph: Graph, *, verbose: int = 0) -> RenderableType:
    """One tree per stack; loopback devices only with ``verbose``."""
    trees: list[RenderableType] = []
    for key in graph:
        node = node_of(graph, key)
        if isinstance(node, StackNode):
            if trees:
                trees.append("")
            trees.append(_stack_tree(graph, key, node, verbose))
    return Group(*trees) if trees else Text("nothing could be read")


def _stack_tree(graph: Graph, key: Key, node: StackNode, verbose: int) -> Tree:
    about: str = node.kind if node.kind != node.name else "this machine"
    if node.state is not None:
        about += f", {node.state}"
    if not node.seen:
        about += ", inside not visible"
    tree = Tree(styled((node.name, "bold")) + styled((f"  {about}", "dim")), guide_style="dim")
    tops = [k for k in targets(graph, key, EdgeKind.HAS) if _is_top(graph, k, verbose)]
    tops.sort(key=lambda k: _rank(graph, k))
    for top in tops:
        _add(graph, tree, top, frozenset())
    for start in sources(graph, key, EdgeKind.CABLE):
        tree.add(styled(("wired to ", "dim")) + styled(_name(graph, start)))
    return tree


def _is_top(graph: Graph, key: Key, verbose: int) -> bool:
    """Whether a node hangs directly on its stack: no port of another, no VLAN upon one."""
    node = node_of(graph, key)
    if isinstance(node, LinkNode) and node.role == "loopback":
        return verbose > 0
    return not targets(graph, key, EdgeKind.PORT) and not targets(graph, key, EdgeKind.LOWER)


def _rank(graph: Graph, key: Key) -> tuple[int, int]:
    node = node_of(graph, key)
    if isinstance(node, LinkNode):
        return _ORDER.index(node.role), node.link.index
    return len(_ORDER), 0


def _add(graph: Graph, tree: Tree, key: Key, above: frozenset[Key]) -> None:
    branch = tree.add(_label(graph, key))
    if key in above:  # a snapshot file may hold a link that is its own master
        return
    below = sources(graph, key, EdgeKind.PORT) + sources(graph, key, EdgeKind.LOWER)
    for child in below:
        _add(graph, branch, child, above | {key})


def _label(graph: Graph, key: Key) -> Text:
    node = node_of(graph, key)
    if isinstance(node, NatNode):
        return (
            styled(("NAT ", "bold yellow")) + styled(node.text) + styled((f"  {node.place}", "dim"))
        )
    if not isinstance(node, LinkNode):
        return styled(node.name)
    label = styled((node.link.name, _STYLE.get(node.role, "bold")))
    kind = node.role if node.role != "link" else node.link.kind or "NIC"
    label += styled((f"  {kind}", "dim"))
    if node.network is not None:
        label += styled((f" of libvirt network {node.network}", "dim"))
    if node.addresses:
        label += styled("  " + " ".join(node.addresses))
    label += _state(node)
    for start, end, edge in edges_of(graph, EdgeKind.DEFAULT):
        if end == key and start == stack_key(node.stack):
            label += styled((f"  {edge.label}", "green"))
    for far in targets(graph, key, EdgeKind.CABLE):
        label += styled((" ── ", "dim")) + styled(_name(graph, far))
    return label


def _state(node: LinkNode) -> Text:
    link = node.link
    troubles = []
    if not link.up:
        troubles.append("down")
    elif not link.carrier:
        troubles.append("no carrier")
    if link.port is not None and link.port.state != "forwarding":
        troubles.append(f"port {link.port.state}")
    return styled((f"  {', '.join(troubles)}", "bold red")) if troubles else Text()


def _name(graph: Graph, key: Key) -> str:
    node = node_of(graph, key)
    if isinstance(node, LinkNode):
        return f"{node.stack} {node.link.name}"
    return node.name if isinstance(node, StackNode) else node.text
