"""One representation for rules of iptables (nft-backed and legacy), nft and ebtables.

A rule is a sequence of matches and statements, carried out from left to right; it stops at
the first match that is false. Evaluation is three-valued: what we cannot evaluate is kept as
:class:`UnknownMatch` or :class:`UnknownStatement` with its text, and never dropped.
Sources: nft(8), iptables-extensions(8), include/uapi/linux/netfilter.h.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Family = Literal["ip", "ip6", "inet", "arp", "bridge", "netdev"]
Backend = Literal["iptables-nft", "iptables-legacy", "nft"]
HookName = Literal["prerouting", "input", "forward", "output", "postrouting", "ingress", "egress"]
Side = Literal["src", "dst"]
Ranges = tuple[tuple[int, int], ...]


class _Part(msgspec.Struct, frozen=True, tag_field="is", tag=True):
    """A part of a rule; the tag in files is the class name."""


class AddressIs(_Part, frozen=True, kw_only=True):
    """Source or destination address in one of ``networks`` (CIDR, or ``first-last``).

    ``of`` is the packet itself, or the original or reply direction of its connection.
    """

    side: Side
    networks: tuple[str, ...]
    negate: bool = False
    of: Literal["packet", "original", "reply"] = "packet"


class InterfaceIs(_Part, frozen=True, kw_only=True):
    """Name of the incoming or outgoing device. A trailing ``*`` matches any ending."""

    direction: Literal["in", "out"]
    names: tuple[str, ...]
    negate: bool = False


class BridgePortIs(_Part, frozen=True, kw_only=True):
    """Name of the bridge port a bridged frame came in or goes out by (``-m physdev``)."""

    direction: Literal["in", "out"]
    names: tuple[str, ...]
    negate: bool = False


class BridgedIs(_Part, frozen=True, kw_only=True):
    """``--physdev-is-in``, ``--physdev-is-out`` or ``--physdev-is-bridged``."""

    which: Literal["in", "out", "bridged"]
    negate: bool = False


class FamilyIs(_Part, frozen=True, kw_only=True):
    """``meta nfproto``, or the ethertype in bridge and netdev chains: ip, ip6 or arp."""

    families: tuple[str, ...]
    negate: bool = False


class ProtocolIs(_Part, frozen=True, kw_only=True):
    """Layer 4 protocol by name where it has one (tcp, udp, icmp, icmpv6), else its number."""

    protocols: tuple[str, ...]
    negate: bool = False


class PortIs(_Part, frozen=True, kw_only=True):
    """TCP or UDP port in one of ``ranges`` (inclusive). ``any`` is either side."""

    side: Literal["src", "dst", "any"]
    ranges: Ranges
    negate: bool = False


class IcmpTypeIs(_Part, frozen=True, kw_only=True):
    """ICMP or ICMPv6 type, with a code where one is given: ``(8, None)``, ``(3, 4)``."""

    types: tuple[tuple[int, int | None], ...]
    negate: bool = False


class TcpFlagsAre(_Part, frozen=True, kw_only=True):
    """Of the flags in ``mask`` exactly those in ``flags`` are set (syn, ack, fin, rst ...)."""

    mask: tuple[str, ...]
    flags: tuple[str, ...]
    negate: bool = False


class ConntrackStateIs(_Part, frozen=True, kw_only=True):
    """Connection state: new, established, related, invalid, untracked, snat, dnat."""

    states: tuple[str, ...]
    negate: bool = False


class MarkIs(_Part, frozen=True, kw_only=True):
    """``mark & mask == value`` of the packet or of its connection."""

    of: Literal["packet", "connection"]
    value: int
    mask: int = 0xFFFFFFFF
    negate: bool = False


class AddressTypeIs(_Part, frozen=True, kw_only=True):
    """``-m addrtype`` and ``fib saddr|daddr type``: local, unicast, broadcast, multicast ...

    ``limit`` restricts the lookup to the incoming or outgoing device.
    """

    side: Side
    types: tuple[str, ...]
    limit: Literal["in", "out"] | None = None
    negate: bool = False


class MacIs(_Part, frozen=True, kw_only=True):
    """Source or destination MAC address; ``masks`` go with ``macs`` where there are any."""

    side: Side
    macs: tuple[str, ...]
    negate: bool = False


class FieldIs(_Part, frozen=True, kw_only=True):
    """A number the packet or its connection has, in one of ``ranges`` (inclusive).

    ``field`` is named as nft names it (``ip ttl``, ``ct original proto-dst``); names that are
    not known make the match unknown. A packet without the field never matches.
    """

    field: str
    ranges: Ranges
    mask: int | None = None
    negate: bool = False


class ReverseRouteIs(_Part, frozen=True, kw_only=True):
    """The way back to the source: ``-m rpfilter``, ``fib saddr . iif oif``.

    True when there is one; with ``strict`` only if it leaves by the incoming link. ``mark``
    lets the packet's mark take part in the lookup, ``accept_local`` lets one's own address
    pass. ``links`` (of ``fib ... oif NAME``) are the names it must lead by instead.
    """

    strict: bool = True
    mark: bool = False
    accept_local: bool = False
    links: tuple[str, ...] = ()
    side: Side = "src"
    negate: bool = False


class SetContains(_Part, frozen=True, kw_only=True):
    """The packet's fields are in an ipset; ``fields`` as src, dst per dimension."""

    name: str
    fields: tuple[str, ...]
    negate: bool = False


class InSet(_Part, frozen=True, kw_only=True):
    """The packet's ``fields``, named as nft names them, are an element of a set.

    The set is a named one of the same table, or ``elements`` written as :class:`NamedSet`
    has them. A packet that lacks one of the fields never matches, negated or not.
    """

    fields: tuple[str, ...]
    name: str | None = None
    elements: tuple[str, ...] = ()
    negate: bool = False


class UnknownMatch(_Part, frozen=True, kw_only=True):
    """A match that is not understood; it may be true or false."""

    text: str


Match = (
    AddressIs
    | InterfaceIs
    | BridgePortIs
    | BridgedIs
    | FamilyIs
    | ProtocolIs
    | PortIs
    | IcmpTypeIs
    | TcpFlagsAre
    | ConntrackStateIs
    | MarkIs
    | AddressTypeIs
    | MacIs
    | FieldIs
    | ReverseRouteIs
    | SetContains
    | InSet
    | UnknownMatch
)


class Accept(_Part, frozen=True):
    """The packet passes this base chain; other base chains of the hook still see it."""


class Drop(_Part, frozen=True):
    """The packet is gone, silently and for good."""


class Reject(_Part, frozen=True, kw_only=True):
    """The packet is gone and its sender is told, by ``reply`` (icmp-port-unreachable ...)."""

    reply: str = "icmp-port-unreachable"


class Jump(_Part, frozen=True, kw_only=True):
    """Go through ``chain`` and come back to the next rule."""

    chain: str


class Goto(_Part, frozen=True, kw_only=True):
    """Go through ``chain``; at its end go on where the last jump came from."""

    chain: str


class Return(_Part, frozen=True):
    """Back to the calling chain; in a base chain, its policy."""


class SourceNat(_Part, frozen=True, kw_only=True):
    """Rewrite the source to an address of ``first``..``last``."""

    first: str
    last: str | None = None
    ports: tuple[int, int] | None = None


class DestinationNat(_Part, frozen=True, kw_only=True):
    """Rewrite the destination; ``first`` is ``None`` when only the port changes."""

    first: str | None
    last: str | None = None
    ports: tuple[int, int] | None = None


class Masquerade(_Part, frozen=True, kw_only=True):
    """Rewrite the source to the address of the link the packet leaves by."""

    ports: tuple[int, int] | None = None


class Redirect(_Part, frozen=True, kw_only=True):
    """Rewrite the destination to the receiving machine itself."""

    ports: tuple[int, int] | None = None


class SetMark(_Part, frozen=True, kw_only=True):
    """``mark = (mark & ~mask) ^ value`` of the packet or of its connection (xt_mark.c)."""

    of: Literal["packet", "connection"]
    value: int
    mask: int = 0xFFFFFFFF


class CopyMark(_Part, frozen=True, kw_only=True):
    """``to = (to & keep) ^ (other & take) ^ flip``, between the packet's and the connection's mark.

    ``to`` names the one that is set (CONNMARK --save-mark, ``meta mark set ct mark``).
    """

    to: Literal["packet", "connection"]
    keep: int = 0
    take: int = 0xFFFFFFFF
    flip: int = 0


class NetMap(_Part, frozen=True, kw_only=True):
    """Rewrite the network part of an address, and keep the rest: destination, or source.

    Which one is the hook's: source in postrouting and input (``-j NETMAP``).
    """

    network: str


class VerdictMap(_Part, frozen=True, kw_only=True):
    """Do what the map says for the packet's ``fields``; without an element for it, go on.

    A named map of the same table, or ``elements`` written as ``key : verdict``.
    """

    fields: tuple[str, ...]
    name: str | None = None
    elements: tuple[str, ...] = ()


class ValueMap(_Part, frozen=True, kw_only=True):
    """Translate to, or mark with, the value a map has for the packet's ``fields``.

    Elements are ``key : address``, ``key : port``, ``key : address . port`` or ``key : mark``.
    A packet without an element is left alone, and its rule ends there.
    """

    action: Literal["snat", "dnat", "redirect", "mark", "ct mark"]
    fields: tuple[str, ...]
    name: str | None = None
    elements: tuple[str, ...] = ()


class SetZone(_Part, frozen=True, kw_only=True):
    """Conntrack keeps the connections of each zone apart."""

    zone: int


class NoTrack(_Part, frozen=True):
    """Conntrack does not look at this packet."""


class NoEffect(_Part, frozen=True, kw_only=True):
    """A statement that does not change where the packet goes: counter, log, checksum fill."""

    text: str


class UnknownStatement(_Part, frozen=True, kw_only=True):
    """A statement that is not understood; what becomes of the packet is unknown."""

    text: str


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
    | NetMap
    | VerdictMap
    | ValueMap
    | SetZone
    | NoTrack
    | NoEffect
    | UnknownStatement
)


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule. ``text`` is how its own tool prints it, ``handle`` its nft handle."""

    body: tuple[Match | Statement, ...]
    text: str
    handle: int | None = None
    packets: int | None = None
    bytes: int | None = None
    comment: str | None = None


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """A chain. ``hook``, ``type``, ``priority`` and ``policy`` are those of a base chain.

    ``type`` is filter, nat or route; ``devices`` is for netdev chains.
    """

    name: str
    rules: tuple[Rule, ...] = ()
    hook: HookName | None = None
    type: Literal["filter", "nat", "route"] | None = None
    priority: int = 0
    policy: Literal["accept", "drop"] = "accept"
    devices: tuple[str, ...] = ()
    packets: int | None = None
    bytes: int | None = None


class NamedSet(msgspec.Struct, frozen=True, kw_only=True):
    """A named set, map or ipset: ``type`` and ``elements`` as its tool prints them.

    ``ipv4_addr . inet_service`` with ``10.0.0.0/8 . 80-90``; a map's type is ``key : value``,
    and so are its elements; an ipset's is ``hash:ip,port`` with ``10.0.0.1,tcp:80``. Times,
    counters and comments of elements are left out. An ipset stands in every table with a
    rule that asks it.
    """

    name: str
    type: str
    elements: tuple[str, ...] = ()


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table of one family and one backend, with all its chains in the order listed."""

    family: Family
    name: str
    backend: Backend
    chains: tuple[Chain, ...] = ()
    sets: tuple[NamedSet, ...] = ()

    def chain(self, name: str) -> Chain | None:
        """The chain of that name, if this table has one."""
        return next((chain for chain in self.chains if chain.name == name), None)
