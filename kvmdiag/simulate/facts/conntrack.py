"""Connection tracking and the translations it remembers, for one stack and one walk.

Sources: net/netfilter/nf_conntrack_core.c, nf_nat_core.c (nf_nat_packet, nf_nat_inet_fn,
get_unique_tuple), nf_conntrack_proto_icmp.c and nf_conntrack_proto_tcp.c for what may begin
a connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Literal

import msgspec
from msgspec.structs import replace

from kvmdiag.model.activity import Flow
from kvmdiag.model.packet import KERNEL_CHOOSES, Direction, IPAddress, Packet

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


def tuples_of(flow: Flow) -> tuple[Tuple, Tuple]:
    """The original and the reply tuple of a tracked connection."""
    original, reply = (
        Tuple(
            ip_address(way.source),
            way.source_port if way.icmp_id is None else way.icmp_id,
            ip_address(way.destination),
            way.destination_port if way.icmp_id is None else way.icmp_id,
            flow.protocol,
            flow.zone,
        )
        for way in (flow.original, flow.reply)
    )
    return original, reply


class Connection(msgspec.Struct):
    """An entry of the conntrack table; it changes as its packets pass.

    ``settled`` holds the manipulations already decided for it: nat rules are asked only once
    for each, even when the answer was to translate nothing. It is ``confirmed`` once its first
    packet has passed the stack; ``half_open`` is TCP's that has begun with a SYN. ``flow`` is
    what the snapshot has of a connection that was there before.
    """

    original: Tuple
    reply: Tuple
    replied: bool = False
    mark: int = 0
    settled: frozenset[Manipulation] = frozenset()
    flow: Flow | None = None
    confirmed: bool = False
    half_open: bool = False

    @property
    def statuses(self) -> frozenset[str]:
        """``snat`` and ``dnat``, as ``ct status`` and ``--ctstate`` name them."""
        found = set()
        if self.reply.dst != self.original.src or self.reply.dport != self.original.sport:
            found.add("snat")
        if self.reply.src != self.original.dst or self.reply.sport != self.original.dport:
            found.add("dnat")
        return frozenset(found)

    @property
    def translated(self) -> Tuple:
        """What its packets look like when all that was settled so far is carried out."""
        return self.reply.inverted()

    def become(self, translated: Tuple) -> None:
        """Let its packets look like that, and the answers be those to it."""
        self.reply = translated.inverted()

    def translate(self, packet: Packet, direction: Direction, manipulation: Manipulation) -> Packet:
        """The packet as this connection's translation leaves it."""
        target = self.translated if direction == "request" else self.original.inverted()
        if packet.about is not None:
            return self._translate_error(packet, packet.about, target, direction, manipulation)
        ports = packet.proto in ("tcp", "udp")
        number = packet.icmp_id if packet.icmp_id is None else target.sport
        if manipulation == "source":
            sport = target.sport if ports else packet.sport
            found = packet.src, packet.sport, packet.icmp_id
            if found == (target.src, sport, number):
                return packet
            return replace(packet, src=target.src, sport=sport, icmp_id=number)
        dport = target.dport if ports else packet.dport
        if (packet.dst, packet.dport, packet.icmp_id) == (target.dst, dport, number):
            return packet
        return replace(packet, dst=target.dst, dport=dport, icmp_id=number)

    def _translate_error(
        self,
        packet: Packet,
        about: Packet,
        target: Tuple,
        direction: Direction,
        manipulation: Manipulation,
    ) -> Packet:
        """An ICMP error, and the packet in it the other way round (nf_nat_icmp_reply_translation).

        Whoever sent it: only what is translated of the connection is translated of it.
        """
        source = manipulation == "source"
        if ("snat" if source == (direction == "request") else "dnat") not in self.statuses:
            return packet
        ports = about.proto in ("tcp", "udp")
        if source:
            inner = replace(about, dst=target.src, dport=target.sport if ports else about.dport)
            return replace(packet, src=target.src, about=inner)
        inner = replace(about, src=target.dst, sport=target.dport if ports else about.sport)
        return replace(packet, dst=target.dst, about=inner)


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
    """The connections of one stack during one walk.

    ``known`` are those of the snapshot by both of their tuples. They are taken over when a
    packet of theirs comes by. ``set_changes`` are those that the stack's rules have made.
    """

    def __init__(self, known: Mapping[Tuple, Flow] | None = None) -> None:
        self._connections: list[Connection] = []
        self._known = known or {}
        self.set_changes: set[object] = set()

    def taken(self, translated: Tuple, but: Connection) -> bool:
        """Whether answers to such packets belong to another connection (nf_nat_used_tuple)."""
        alone = len(self._connections) == 1 and not self._known
        if alone or KERNEL_CHOOSES in (translated.sport, translated.dport):
            return False
        answer = translated.inverted()
        return any(
            answer in (other.original, other.reply)
            for other in self._connections
            if other is not but
        ) or (answer in self._known and self._known[answer] is not but.flow)

    def track(self, packet: Packet, zone: int = 0) -> Tracked:
        """Find or begin the packet's connection in a zone."""
        if packet.about is not None:
            return self._related(packet, packet.about, zone)
        mine = tuple_of(packet, zone)
        if self._known and mine in self._known:
            self._take_over(self._known[mine])
        for connection in self._connections:
            if mine not in (connection.original, connection.reply):
                continue
            if _is_early(packet, connection):
                return Tracked(None, "request", "invalid")
            # What a stack asks of itself by ICMP looks the same both ways, but for the type.
            if mine == connection.reply and packet.icmp_type not in _ASKING:
                connection.replied = True
                return Tracked(connection, "reply", "established")
            if mine == connection.original and packet.icmp_type not in _ANSWERING:
                state = "established" if connection.replied else "new"
                return Tracked(connection, "request", state)
        if packet.proto == "icmpv6" and packet.icmp_type in _NOT_TRACKED:
            return UNTRACKED
        if not _may_begin(packet):
            return Tracked(None, "request", "invalid")
        connection = Connection(mine, mine.inverted(), half_open="syn" in packet.tcp_flags)
        self._connections.append(connection)
        return Tracked(connection, "request", "new")

    def _related(self, packet: Packet, about: Packet, zone: int) -> Tracked:
        """An ICMP error goes with the connection it tells of (nf_conntrack_inet_error)."""
        answer = tuple_of(about, zone).inverted()
        if self._known and answer in self._known:
            self._take_over(self._known[answer])
        for connection in self._connections:
            if not connection.confirmed or answer not in (connection.original, connection.reply):
                continue
            back = answer == connection.reply
            if packet.dst == (connection.reply if back else connection.original).dst:
                return Tracked(connection, "reply" if back else "request", "related")
        return Tracked(None, "request", "invalid")

    def forget_unconfirmed(self) -> None:
        """Once their packet is gone, nothing is left of connections that it did not confirm."""
        self._connections = [found for found in self._connections if found.confirmed]

    def _take_over(self, flow: Flow) -> None:
        """Let a connection of the snapshot be one of this walk."""
        if any(connection.flow is flow for connection in self._connections):
            return
        replied = "seen-reply" in flow.status
        # Once it is answered nat chains are not asked any more, whether they were or not.
        settled = frozenset(way for way, word in _SETTLED.items() if replied or word in flow.status)
        original, reply = tuples_of(flow)
        self._connections.append(
            Connection(original, reply, replied, flow.mark, settled, flow, confirmed=True)
        )


_SETTLED: Mapping[Manipulation, str] = {"source": "src-nat-done", "destination": "dst-nat-done"}

# Types of ICMP and ICMPv6 that begin a connection, and those of their answers (invmap).
_ASKING = frozenset({8, 13, 15, 17, 128, 139})
_ANSWERING = frozenset({0, 14, 16, 18, 129, 140})

# Multicast listener and neighbour discovery (noct_valid_new in nf_conntrack_proto_icmpv6.c).
_NOT_TRACKED = frozenset({130, 131, 132, 133, 134, 135, 136, 137, 143})


def _is_early(packet: Packet, connection: Connection) -> bool:
    """Whether TCP goes on before its SYN was answered (tcp_conntracks: sIV for an ACK)."""
    return connection.half_open and not connection.replied and "syn" not in packet.tcp_flags


def _may_begin(packet: Packet) -> bool:
    """Whether a packet without a connection begins one, or is invalid."""
    if packet.proto in ("icmp", "icmpv6"):
        return packet.icmp_type in _ASKING
    if packet.proto == "tcp":
        return not {"syn", "ack"} <= packet.tcp_flags and "rst" not in packet.tcp_flags
    return True
