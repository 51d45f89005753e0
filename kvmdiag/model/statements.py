"""What rules do: one frozen struct for each kind of statement.

A statement that is not understood is an :class:`UnknownStatement` with its text.
Sources: nft(8), iptables-extensions(8).
"""

from __future__ import annotations

from typing import Literal

from kvmdiag.model.matches import Part


class Accept(Part, frozen=True):
    """The packet passes this base chain; other base chains of the hook still see it."""


class Drop(Part, frozen=True):
    """The packet is gone, silently and for good."""


class Reject(Part, frozen=True, kw_only=True):
    """The packet is gone and its sender is told, by ``reply`` (icmp-port-unreachable ...)."""

    reply: str = "icmp-port-unreachable"


class Jump(Part, frozen=True, kw_only=True):
    """Go through ``chain`` and come back to the next rule."""

    chain: str


class Goto(Part, frozen=True, kw_only=True):
    """Go through ``chain``; at its end go on where the last jump came from."""

    chain: str


class Return(Part, frozen=True):
    """Back to the calling chain; in a base chain, its policy."""


class SourceNat(Part, frozen=True, kw_only=True):
    """Rewrite the source to an address of ``first``..``last``.

    ``random`` draws the port by lot; ``persistent`` gives a client the same address for all.
    """

    first: str
    last: str | None = None
    ports: tuple[int, int] | None = None
    random: bool = False
    persistent: bool = False


class DestinationNat(Part, frozen=True, kw_only=True):
    """Rewrite the destination; ``first`` is ``None`` when only the port changes.

    ``random`` and ``persistent`` as in :class:`SourceNat`.
    """

    first: str | None
    last: str | None = None
    ports: tuple[int, int] | None = None
    random: bool = False
    persistent: bool = False


class Masquerade(Part, frozen=True, kw_only=True):
    """Rewrite the source to the address of the link the packet leaves by."""

    ports: tuple[int, int] | None = None
    random: bool = False


class Redirect(Part, frozen=True, kw_only=True):
    """Rewrite the destination to the receiving machine itself."""

    ports: tuple[int, int] | None = None
    random: bool = False


class SetMark(Part, frozen=True, kw_only=True):
    """``mark = (mark & ~mask) ^ value`` of the packet or of its connection (xt_mark.c)."""

    of: Literal["packet", "connection"]
    value: int
    mask: int = 0xFFFFFFFF


class CopyMark(Part, frozen=True, kw_only=True):
    """``to = (to & keep) ^ (other & take) ^ flip``, between the packet's and the connection's mark.

    ``to`` names the one that is set (CONNMARK --save-mark, ``meta mark set ct mark``).
    """

    to: Literal["packet", "connection"]
    keep: int = 0
    take: int = 0xFFFFFFFF
    flip: int = 0


class SetLife(Part, frozen=True, kw_only=True):
    """Set the time to live (of ip6: the hop limit) to ``value``, or add it where ``relative``.

    It stays within 0 and 255 (xt_HL.c). A packet of the other family ends the rule.
    """

    family: Literal["ip", "ip6"]
    value: int
    relative: bool = False


class NetMap(Part, frozen=True, kw_only=True):
    """Rewrite the network part of an address, and keep the rest: destination, or source.

    Which one is the hook's: source in postrouting and input (``-j NETMAP``).
    """

    network: str


class VerdictMap(Part, frozen=True, kw_only=True):
    """Do what the map says for the packet's ``fields``; without an element for it, go on.

    A named map of the same table, or ``elements`` written as ``key : verdict``.
    """

    fields: tuple[str, ...]
    name: str | None = None
    elements: tuple[str, ...] = ()


class ValueMap(Part, frozen=True, kw_only=True):
    """Translate to, or mark with, the value a map has for the packet's ``fields``.

    Elements are ``key : address``, ``key : port``, ``key : address . port`` or ``key : mark``.
    A packet without an element is left alone, and its rule ends there.
    """

    action: Literal["snat", "dnat", "redirect", "mark", "ct mark"]
    fields: tuple[str, ...]
    name: str | None = None
    elements: tuple[str, ...] = ()


class SetZone(Part, frozen=True, kw_only=True):
    """Conntrack keeps the connections of each zone apart."""

    zone: int


class NoTrack(Part, frozen=True):
    """Conntrack does not look at this packet."""


class AddToSet(Part, frozen=True, kw_only=True):
    """Add the packet's fields to a set of the same table, or to an ipset.

    Which fields is not kept: what the set says of later packets, and to later rules, is open.
    """

    name: str
    ipset: bool = False


class TakeFromSet(Part, frozen=True, kw_only=True):
    """Take the packet's fields out of a set, named as in :class:`AddToSet`."""

    name: str
    ipset: bool = False


class NoEffect(Part, frozen=True, kw_only=True):
    """A statement that does not change where the packet goes: counter, log, checksum fill."""

    text: str


class UnknownStatement(Part, frozen=True, kw_only=True):
    """A statement that is not understood; what becomes of the packet is unknown."""

    text: str


Translation = SourceNat | DestinationNat | Masquerade | Redirect | NetMap
"""What nat chains are asked for."""

Statement = (
    Accept
    | Drop
    | Reject
    | Jump
    | Goto
    | Return
    | SourceNat
    | DestinationNat
    | Masquerade
    | Redirect
    | SetMark
    | CopyMark
    | SetLife
    | NetMap
    | VerdictMap
    | ValueMap
    | SetZone
    | NoTrack
    | AddToSet
    | TakeFromSet
    | NoEffect
    | UnknownStatement
)
