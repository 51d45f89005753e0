"""Connection tracking and the translations it remembers, for one stack and one walk.

Sources: net/netfilter/nf_conntrack_core.c, nf_nat_core.c (nf_nat_packet, nf_nat_inet_fn,
get_unique_tuple), nf_conntrack_proto_icmp.c and nf_conntrack_proto_tcp.c for what may begin
a connection.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec.structs import replace

from kvmdiag.model.netfilter import (
    AddressIs,
    ConntrackStateIs,
    CopyMark,
    DestinationNat,
    FieldIs,
    InSet,
    MarkIs,
    Masquerade,
    Match,
    NetMap,
    Redirect,
    SetMark,
    SetZone,
    SourceNat,
    Statement,
    Table,
    UnknownMatch,
    UnknownStatement,
    ValueMap,
    VerdictMap,
)
from kvmdiag.model.packet import Direction, IPAddress, Packet

Manipulation = Literal["source", "destination"]


class Tuple(msgspec.Struct, frozen=True):
    """What identifies one direction of a connection; an ICMP id stands for both ports."""

    src: IPAddress
    sport: int | None
    dst: IPAddress
    dport: int | None
    proto: str
    zone: int = 0

    def inverted(self) -> Tuple:
        """The tuple of the packets that answer."""
        return Tuple(self.dst, self.dport, self.src, self.sport, self.proto, self.zone)


def tuple_of(packet: Packet, zone: int = 0) -> Tuple:
    """The tuple a packet belongs to."""
    if packet.proto in ("icmp", "icmpv6"):
        number = packet.icmp_id
        return Tuple(packet.src, number, packet.dst, number, packet.proto, zone)
    return Tuple(packet.src, packet.sport, packet.dst, packet.dport, packet.proto, zone)


class Connection(msgspec.Struct):
    """An entry of the conntrack table; it changes as its packets pass.

    ``settled`` holds the manipulations already decided for it: nat rules are asked only once
    for each, even when the answer was to translate nothing.
    """

    original: Tuple
    reply: Tuple
    replied: bool = False
    mark: int = 0
    settled: frozenset[Manipulation] = frozenset()

    @property
    def statuses(self) -> frozenset[str]:
        """``snat`` and ``dnat``, as ``ct status`` and ``--ctstate`` name them."""
        found = set()
        if self.reply.dst != self.original.src or self.reply.dport != self.original.sport:
            found.add("snat")
        if self.reply.src != self.original.dst or self.reply.sport != self.original.dport:
            found.add("dnat")
        return frozenset(found)

    def rewrite_source(self, address: IPAddress, ports: tuple[int, int] | None) -> None:
        """Let the answers come to ``address`` instead, at a port within ``ports``."""
        port = self._port(self.reply.dport, ports)
        self.reply = replace(self.reply, dst=address, dport=port)

    def rewrite_destination(self, address: IPAddress, ports: tuple[int, int] | None) -> None:
        """Let the packets go to ``address``, and the answers come from there."""
        port = self._port(self.reply.sport, ports)
        self.reply = replace(self.reply, src=address, sport=port)

    def _port(self, mine: int | None, ports: tuple[int, int] | None) -> int | None:
        """A port that is allowed is kept; else the kernel may take any, and we the first."""
        if ports is None or mine is None or self.original.proto in ("icmp", "icmpv6"):
            return mine
        return mine if ports[0] <= mine <= ports[1] else ports[0]

    def translate(self, packet: Packet, direction: Direction, manipulation: Manipulation) -> Packet:
        """The packet as this connection's translation leaves it."""
        target = self.reply.inverted() if direction == "request" else self.original.inverted()
        ports = packet.proto in ("tcp", "udp")
        if manipulation == "source":
            if packet.src == target.src and (not ports or packet.sport == target.sport):
                return packet
            sport = target.sport if ports else packet.sport
            return replace(packet, src=target.src, sport=sport)
        if packet.dst == target.dst and (not ports or packet.dport == target.dport):
            return packet
        dport = target.dport if ports else packet.dport
        return replace(packet, dst=target.dst, dport=dport)


class Tracked(msgspec.Struct, frozen=True):
    """A packet's connection, its direction in it, and its state for ``ct state``."""

    connection: Connection | None
    direction: Direction
    state: str

    @property
    def statuses(self) -> frozenset[str]:
        """The connection's statuses, none for a packet without a connection."""
        return self.connection.statuses if self.connection is not None else frozenset()

    @property
    def mark(self) -> int:
        """The connection's mark."""
        return self.connection.mark if self.connection is not None else 0


UNTRACKED = Tracked(None, "request", "untracked")


class Conntrack:
    """The connections of one stack during one walk."""

    def __init__(self) -> None:
        self._connections: list[Connection] = []

    def track(self, packet: Packet, zone: int = 0) -> Tracked:
        """Find or begin the packet's connection in a zone."""
        mine = tuple_of(packet, zone)
        for connection in self._connections:
            if mine == connection.reply:
                connection.replied = True
                return Tracked(connection, "reply", "established")
            if mine == connection.original:
                state = "established" if connection.replied else "new"
                return Tracked(connection, "request", state)
        if packet.proto == "icmpv6" and packet.icmp_type in _NOT_TRACKED:
            return UNTRACKED
        if not _may_begin(packet):
            return Tracked(None, "request", "invalid")
        connection = Connection(mine, mine.inverted())
        self._connections.append(connection)
        return Tracked(connection, "request", "new")


# Multicast listener and neighbour discovery (noct_valid_new in nf_conntrack_proto_icmpv6.c).
_NOT_TRACKED = frozenset({130, 131, 132, 133, 134, 135, 136, 137, 143})


def _may_begin(packet: Packet) -> bool:
    """Whether a packet without a connection begins one, or is invalid."""
    if packet.proto == "icmp":
        return packet.icmp_type in (8, 13, 15, 17)
    if packet.proto == "icmpv6":
        return packet.icmp_type in (128, 139)
    if packet.proto == "tcp":
        return not {"syn", "ack"} <= packet.tcp_flags and "rst" not in packet.tcp_flags
    return True


def is_active(tables: tuple[Table, ...], family: str) -> bool:
    """Whether a rule makes the kernel track connections in this family.

    Conntrack is switched on by the first rule that needs it: a translation, or any match on
    the connection (nf_ct_netns_get).
    """
    return any(
        _needs_conntrack(part)
        for table in tables
        if table.family in (family, "inet")
        for chain in table.chains
        for rule in chain.rules
        for part in rule.body
    )


def _needs_conntrack(part: Match | Statement) -> bool:
    match part:
        case MarkIs() | SetMark():
            return part.of == "connection"
        case AddressIs():
            return part.of != "packet"
        case FieldIs():
            return part.field.startswith("ct ")
        case InSet() | VerdictMap():
            return any(field.startswith("ct ") for field in part.fields)
        case ValueMap():
            return part.action != "mark" or any(field.startswith("ct ") for field in part.fields)
        case UnknownMatch() | UnknownStatement():
            return part.text.startswith(_CONNECTION_WORDS)
    return isinstance(part, _NEEDS_CONNTRACK)


_NEEDS_CONNTRACK = (
    ConntrackStateIs,
    CopyMark,
    DestinationNat,
    Masquerade,
    NetMap,
    Redirect,
    SetZone,
    SourceNat,
)

# How rules begin that we do not understand and that ask about the connection nevertheless.
_CONNECTION_WORDS = ("ct ", "--ct", "-m conn", "-m helper", "-j CT", "-j CONNMARK", "synproxy")
