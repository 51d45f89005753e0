"""Connection tracking and the translations it remembers, for one stack and one walk.

Sources: net/netfilter/nf_conntrack_core.c, nf_nat_core.c (nf_nat_packet, nf_nat_inet_fn),
nf_conntrack_proto_icmp.c and nf_conntrack_proto_tcp.c for what may begin a connection.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from msgspec.structs import replace as with_fields

from kvmdiag.model.netfilter import (
    ConntrackStateIs,
    DestinationNat,
    MarkIs,
    Masquerade,
    Redirect,
    SetMark,
    SourceNat,
    Table,
)
from kvmdiag.model.packet import Direction, IPAddress, Packet

Manipulation = Literal["source", "destination"]


@dataclass(frozen=True, slots=True)
class Tuple:
    """What identifies one direction of a connection; an ICMP id stands for both ports."""

    src: IPAddress
    sport: int | None
    dst: IPAddress
    dport: int | None
    proto: str

    def inverted(self) -> Tuple:
        """The tuple of the packets that answer."""
        return Tuple(self.dst, self.dport, self.src, self.sport, self.proto)


def tuple_of(packet: Packet) -> Tuple:
    """The tuple a packet belongs to."""
    if packet.proto in ("icmp", "icmpv6"):
        return Tuple(packet.src, packet.icmp_id, packet.dst, packet.icmp_id, packet.proto)
    return Tuple(packet.src, packet.sport, packet.dst, packet.dport, packet.proto)


@dataclass(slots=True)
class Connection:
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

    def rewrite_source(self, address: IPAddress, port: int | None) -> None:
        """Let the answers come to ``address`` instead."""
        port = self.reply.dport if port is None else port
        if self.original.proto in ("icmp", "icmpv6"):
            port = self.reply.dport
        self.reply = replace(self.reply, dst=address, dport=port)

    def rewrite_destination(self, address: IPAddress, port: int | None) -> None:
        """Let the packets go to ``address``, and the answers come from there."""
        port = self.reply.sport if port is None else port
        if self.original.proto in ("icmp", "icmpv6"):
            port = self.reply.sport
        self.reply = replace(self.reply, src=address, sport=port)

    def translate(self, packet: Packet, direction: Direction, manipulation: Manipulation) -> Packet:
        """The packet as this connection's translation leaves it."""
        target = self.reply.inverted() if direction == "request" else self.original.inverted()
        ports = packet.proto in ("tcp", "udp")
        if manipulation == "source":
            if packet.src == target.src and (not ports or packet.sport == target.sport):
                return packet
            sport = target.sport if ports else packet.sport
            return with_fields(packet, src=target.src, sport=sport)
        if packet.dst == target.dst and (not ports or packet.dport == target.dport):
            return packet
        dport = target.dport if ports else packet.dport
        return with_fields(packet, dst=target.dst, dport=dport)


@dataclass(frozen=True, slots=True)
class Tracked:
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

    def track(self, packet: Packet) -> Tracked:
        """Find or begin the packet's connection."""
        mine = tuple_of(packet)
        for connection in self._connections:
            if mine == connection.reply:
                connection.replied = True
                return Tracked(connection, "reply", "established")
            if mine == connection.original:
                state = "established" if connection.replied else "new"
                return Tracked(connection, "request", state)
        if not _may_begin(packet):
            return Tracked(None, "request", "invalid")
        connection = Connection(mine, mine.inverted())
        self._connections.append(connection)
        return Tracked(connection, "request", "new")


def _may_begin(packet: Packet) -> bool:
    """Whether a packet without a connection begins one, or is invalid."""
    if packet.proto == "icmp":
        return packet.icmp_type in (8, 13, 15, 17)
    if packet.proto == "icmpv6":
        return packet.icmp_type in (128, 133, 135)
    if packet.proto == "tcp":
        return not {"syn", "ack"} <= packet.tcp_flags and "rst" not in packet.tcp_flags
    return True


def is_active(tables: tuple[Table, ...], family: str) -> bool:
    """Whether a rule makes the kernel track connections in this family.

    Conntrack is switched on by the first rule that needs it: a translation, or any match on
    the connection (nf_ct_netns_get).
    """
    return any(
        isinstance(part, _NEEDS_CONNTRACK)
        and (not isinstance(part, MarkIs | SetMark) or part.of == "connection")
        for table in tables
        if table.family in (family, "inet")
        for chain in table.chains
        for rule in chain.rules
        for part in rule.body
    )


_NEEDS_CONNTRACK = (
    ConntrackStateIs,
    DestinationNat,
    MarkIs,
    Masquerade,
    Redirect,
    SetMark,
    SourceNat,
)
