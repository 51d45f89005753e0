"""What rules look at: one frozen struct for each kind of match.

A match that is not understood is an :class:`UnknownMatch` with its text.
Sources: nft(8), iptables-extensions(8).
"""

from __future__ import annotations

from typing import Literal

from kvmdiag.model.fact import Fact

Side = Literal["src", "dst"]
Ranges = tuple[tuple[int, int], ...]


class Part(Fact, frozen=True, tag_field="is", tag=True):
    """A part of a rule; the tag in files is the class name."""


class AddressIs(Part, frozen=True, kw_only=True):
    """Source or destination address in one of ``networks`` (CIDR, or ``first-last``).

    ``of`` is the packet itself, or the original or reply direction of its connection.
    """

    side: Side
    networks: tuple[str, ...]
    negate: bool = False
    of: Literal["packet", "original", "reply"] = "packet"


class InterfaceIs(Part, frozen=True, kw_only=True):
    """Name of the incoming or outgoing device. A trailing ``*`` matches any ending."""

    direction: Literal["in", "out"]
    names: tuple[str, ...]
    negate: bool = False


class BridgePortIs(Part, frozen=True, kw_only=True):
    """Name of the bridge port a bridged frame came in or goes out by (``-m physdev``)."""

    direction: Literal["in", "out"]
    names: tuple[str, ...]
    negate: bool = False


class BridgedIs(Part, frozen=True, kw_only=True):
    """``--physdev-is-in``, ``--physdev-is-out`` or ``--physdev-is-bridged``."""

    which: Literal["in", "out", "bridged"]
    negate: bool = False


class FamilyIs(Part, frozen=True, kw_only=True):
    """``meta nfproto``, or the ethertype in bridge and netdev chains: ip, ip6 or arp."""

    families: tuple[str, ...]
    negate: bool = False


class ProtocolIs(Part, frozen=True, kw_only=True):
    """Layer 4 protocol by name where it has one (tcp, udp, icmp, icmpv6), else its number."""

    protocols: tuple[str, ...]
    negate: bool = False


class PortIs(Part, frozen=True, kw_only=True):
    """TCP or UDP port in one of ``ranges`` (inclusive). ``any`` is either side."""

    side: Literal["src", "dst", "any"]
    ranges: Ranges
    negate: bool = False


class IcmpTypeIs(Part, frozen=True, kw_only=True):
    """ICMP or ICMPv6 type, with a code where one is given: ``(8, None)``, ``(3, 4)``."""

    types: tuple[tuple[int, int | None], ...]
    negate: bool = False


class TcpFlagsAre(Part, frozen=True, kw_only=True):
    """Of the flags in ``mask`` exactly those in ``flags`` are set (syn, ack, fin, rst ...)."""

    mask: tuple[str, ...]
    flags: tuple[str, ...]
    negate: bool = False


class ConntrackStateIs(Part, frozen=True, kw_only=True):
    """Connection state: new, established, related, invalid, untracked, snat, dnat."""

    states: tuple[str, ...]
    negate: bool = False


class MarkIs(Part, frozen=True, kw_only=True):
    """``mark & mask == value`` of the packet or of its connection."""

    of: Literal["packet", "connection"]
    value: int
    mask: int = 0xFFFFFFFF
    negate: bool = False


class AddressTypeIs(Part, frozen=True, kw_only=True):
    """``-m addrtype`` and ``fib saddr|daddr type``: local, unicast, broadcast, multicast ...

    ``limit`` restricts the lookup to the incoming or outgoing device.
    """

    side: Side
    types: tuple[str, ...]
    limit: Literal["in", "out"] | None = None
    negate: bool = False


class MacIs(Part, frozen=True, kw_only=True):
    """Source or destination MAC address; ``masks`` go with ``macs`` where there are any."""

    side: Side
    macs: tuple[str, ...]
    negate: bool = False


class FieldIs(Part, frozen=True, kw_only=True):
    """A number the packet or its connection has, in one of ``ranges`` (inclusive).

    ``field`` is named as nft names it (``ip ttl``, ``ct original proto-dst``); names that are
    not known make the match unknown. A packet without the field never matches.
    """

    field: str
    ranges: Ranges
    mask: int | None = None
    negate: bool = False


class ReverseRouteIs(Part, frozen=True, kw_only=True):
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


class SetContains(Part, frozen=True, kw_only=True):
    """The packet's fields are in an ipset; ``fields`` as src, dst per dimension."""

    name: str
    fields: tuple[str, ...]
    negate: bool = False


class InSet(Part, frozen=True, kw_only=True):
    """The packet's ``fields``, named as nft names them, are an element of a set.

    The set is a named one of the same table, or ``elements`` written as :class:`NamedSet`
    has them. A packet that lacks one of the fields never matches, negated or not.
    """

    fields: tuple[str, ...]
    name: str | None = None
    elements: tuple[str, ...] = ()
    negate: bool = False


class OwnerIs(Part, frozen=True, kw_only=True):
    """``-m owner``: whose socket on this machine sent the packet, which no snapshot tells.

    What a machine only passes on has no socket there; it matches where all that is asked is
    negated (``negate``), and else never (owner_mt in xt_owner.c).
    """

    text: str
    negate: bool = False


class UnknownMatch(Part, frozen=True, kw_only=True):
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
    | OwnerIs
    | UnknownMatch
)
