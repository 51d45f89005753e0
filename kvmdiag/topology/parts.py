"""What the nodes and edges of the graph are."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

from kvmdiag.model.link import Link
from kvmdiag.model.stack import StackKind

LinkRole = Literal["bridge", "tap", "uplink", "loopback", "veth", "vlan", "link"]


class EdgeKind(StrEnum):
    """What joins two nodes.

    HAS      a stack and a link in it, or a NAT rule of it
    PORT     a link and the bridge or bond it is a port of
    LOWER    a link and the one it stands upon (a VLAN and its trunk)
    CABLE    the two ends of a cable; there is one edge each way
    DEFAULT  a stack and the link its default route leaves by
    NAT      a NAT rule and a link it names
    """

    HAS = "has"
    PORT = "port"
    LOWER = "lower"
    CABLE = "cable"
    DEFAULT = "default"
    NAT = "nat"


class StackNode(msgspec.Struct, frozen=True, kw_only=True):
    """A stack. ``seen`` is false for a guest of which only the outside is known."""

    name: str
    kind: StackKind
    state: str | None = None
    seen: bool = True


class LinkNode(msgspec.Struct, frozen=True, kw_only=True):
    """A link with what people look for on a map; ``network`` is libvirt's for its bridge."""

    stack: str
    link: Link
    role: LinkRole
    addresses: tuple[str, ...] | None = None
    network: str | None = None


class NatNode(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that rewrites addresses. ``text`` is the rule's, ``place`` its chain."""

    stack: str
    side: Literal["source", "destination"]
    place: str
    text: str


Node = StackNode | LinkNode | NatNode


class Edge(msgspec.Struct, frozen=True, kw_only=True):
    """``label`` says more where there is more to say (the gateway of a default route)."""

    kind: EdgeKind
    label: str = ""
