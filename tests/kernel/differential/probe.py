"""Sends real packets through a network that stands, and writes down where they were seen."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from differential.build import Built
from differential.packets import (
    FIRST_PORT,
    ICMP,
    ICMPV6,
    TCP,
    UDP,
    Sighting,
    answer,
    echo_request,
    recognised,
    tag,
    upper,
)
from differential.plan import PORTS, Ask
from differential.tracing import Place, RuleTrace
from kvmdiag.system.namespaces import entered

_ALL = 3
_PROTOCOLS = (0x0800, 0x86DD)
_OUTGOING, _OTHER_HOST = 4, 3
_IP_PKTINFO, _IP_MTU_DISCOVER, _PMTUDISC_DO = 8, 10, 2
_IPV6_RECVPKTINFO, _IPV6_PKTINFO = 49, 50
_PING = 84
ROUNDS = (1, 2)
"""A flow's first packet and its reply, then one more of each."""


@dataclass(frozen=True, order=True)
class Crossing:
    """A packet seen on a link: ``way`` is in or out."""

    stack: str
    link: str
    way: str


@dataclass(frozen=True, order=True)
class Arrival:
    """A packet given to the sockets of a stack, with the addresses it had by then.

    Of a request also the port, and whether it still had the source port it was sent with.
    """

    stack: str
    src: str
    dst: str
    dport: int | None
    own_port: bool | None = None


@dataclass
class Seen:
    """All that was seen of one direction of one question in one round."""

    crossings: set[Crossing] = field(default_factory=set)
    strays: set[Crossing] = field(default_factory=set)
    """Copies for somebody else: flooded, and dropped by whoever got them."""
    arrivals: set[Arrival] = field(default_factory=set)
    dropped_by: set[tuple[str, Place]] = field(default_factory=set)
    """By stack, rules and policies of nf_tables that dropped or rejected it."""
    matched: set[tuple[str, Place]] = field(default_factory=set)
    """By stack, rules of nf_tables that it matched."""


@dataclass
class Observation:
    """What became of one question in one round."""

    request: Seen = field(default_factory=Seen)
    reply: Seen = field(default_factory=Seen)


class Watch:
    """Sockets in every stack: they listen, answer, and see what passes."""

    def __init__(self, network: Built) -> None:
        self._network = network
        self._version = network.case.version
        self._family = socket.AF_INET if self._version == 4 else socket.AF_INET6
        self._opened = contextlib.ExitStack()
        self._selector = self._opened.enter_context(selectors.DefaultSelector())
        asks = network.case.asks
        self._found = {(n, r): Observation() for n in range(len(asks)) for r in ROUNDS}
        self._senders: dict[int, Callable[[int], object]] = {}

    def __enter__(self) -> Watch:
        with contextlib.ExitStack() as undo:
            undo.push(self._opened)
            for stack in self._network.case.stacks:
                with entered(self._network.path(stack.name)):
                    self._open(stack.name)
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def trace(self, stack: str) -> None:
        """Have nf_tables tell from now on which rules our packets match in a stack."""
        with entered(self._network.path(stack)):
            trace = self._opened.enter_context(contextlib.closing(RuleTrace()))
        self._on(trace, self._traced, stack)

    def ask(self, quiet: float, longest: float = 8.0) -> list[tuple[Observation, Observation]]:
        """Ask everything the case asks, both rounds, and watch until all is quiet."""
        for round_ in ROUNDS:
            for number, ask in enumerate(self._network.case.asks):
                self._send(number, ask, round_)
            self._until_quiet(quiet, longest)
        first, second = ROUNDS
        numbers = range(len(self._network.case.asks))
        return [(self._found[n, first], self._found[n, second]) for n in numbers]

    def _open(self, stack: str) -> None:
        wire = self._socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
        self._on(wire, self._frames, stack)
        for proto in (ICMP if self._version == 4 else ICMPV6, TCP, UDP):
            raw = self._socket(self._family, socket.SOCK_RAW, proto)
            if self._version == 6:
                raw.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
            self._on(raw, self._arrivals, stack)
        for port in PORTS:
            tcp = self._socket(self._family, socket.SOCK_STREAM, 0)
            self._bind(tcp, "", port)
            tcp.listen(32)
            udp = self._socket(self._family, socket.SOCK_DGRAM, 0)
            if self._version == 4:
                udp.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            else:
                udp.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
            self._bind(udp, "", port)
            self._on(udp, self._echo, stack)

    def _socket(self, family: int, kind: int, proto: int) -> socket.socket:
        sock = self._opened.enter_context(socket.socket(family, kind, proto))
        sock.setblocking(False)
        return sock

    def _bind(self, sock: socket.socket, address: str, port: int) -> None:
        sock.bind((address or ("0.0.0.0" if self._version == 4 else "::"), port))

    def _on(self, source: Any, handler: object, stack: str) -> None:
        self._selector.register(source, selectors.EVENT_READ, (handler, stack))

    def _send(self, number: int, ask: Ask, round_: int) -> None:
        """The kernel itself sends: it selects the source, and may well refuse."""
        with entered(self._network.path(ask.source)):
            for _ in range(2):  # an error that came back for the last one is told first
                with contextlib.suppress(OSError):
                    if number not in self._senders:
                        self._senders[number] = self._sender(number, ask)
                    self._senders[number](round_)
                    return

    def _sender(self, number: int, ask: Ask) -> Callable[[int], object]:
        """Sends the packet of a round, once it is made; the first of TCP goes at once."""
        port, size = FIRST_PORT + number, ask.size or _PING
        if ask.proto == "icmp":
            proto = ICMP if self._version == 4 else ICMPV6
            sock = self._socket(self._family, socket.SOCK_RAW, proto)
            if ask.size is not None and self._version == 4:
                sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DO)
            self._bind(sock, ask.bound or "", 0)
            return lambda round_: sock.sendto(
                echo_request(number, round_, self._version, size), (ask.address, 0)
            )
        kind = socket.SOCK_STREAM if ask.proto == "tcp" else socket.SOCK_DGRAM
        sock = self._socket(self._family, kind, 0)
        self._bind(sock, ask.bound or "", port)
        with contextlib.suppress(BlockingIOError):
            sock.connect((ask.address, ask.port))
        if ask.proto == "udp":
            return lambda round_: sock.send(tag(number, round_))
        return lambda round_: round_ == 1 or sock.send(tag(number, round_))

    def _until_quiet(self, quiet: float, longest: float) -> None:
        """Take everything in until nothing of ours has come for a while."""
        end = time.monotonic() + longest
        silent_since = time.monotonic()
        while True:
            now = time.monotonic()
            left = min(silent_since + quiet, end) - now
            if left <= 0:
                return
            for key, _ in self._selector.select(left):
                handler, stack = key.data
                if handler(key.fileobj, stack):
                    silent_since = time.monotonic()

    def _frames(self, sock: socket.socket, stack: str) -> bool:
        ours = False
        for data, (link, proto, kind, _, _) in _received(sock):
            if proto not in _PROTOCOLS or link == "lo":
                continue
            seen = self._which(recognised(data[14:]))
            if seen is None:
                continue
            ours = True
            crossing = Crossing(stack, link, "out" if kind == _OUTGOING else "in")
            if kind == _OTHER_HOST:
                seen.strays.add(crossing)
            else:
                seen.crossings.add(crossing)
        return ours

    def _arrivals(self, sock: socket.socket, stack: str) -> bool:
        ours = False
        found = map(recognised, _packets(sock)) if self._version == 4 else _messages(sock)
        for packet in found:
            seen = self._which(packet)
            if packet is None or seen is None:
                continue
            ours = True
            dport = own_port = None
            if not packet.is_reply and packet.proto in (TCP, UDP):
                dport = packet.dport
                own_port = packet.sport == FIRST_PORT + packet.number
            seen.arrivals.add(Arrival(stack, packet.src, packet.dst, dport, own_port))
        return ours

    def _traced(self, trace: RuleTrace, stack: str) -> bool:
        ours = False
        for packet, place, dropped in trace.events():
            seen = self._which(packet)
            if seen is None:
                continue
            ours = True
            if place.handle is not None:
                seen.matched.add((stack, place))
            if dropped:
                seen.dropped_by.add((stack, place))
        return ours

    def _echo(self, sock: socket.socket, stack: str) -> bool:
        """Send a datagram back, from the address it was sent to."""
        del stack
        while True:
            try:
                data, extra, _, sender = sock.recvmsg(2048, 256)
            except BlockingIOError:
                return True
            sent_back = answer(data)
            if sent_back is None:
                continue
            (_, _, info), *_ = extra
            if self._version == 4:
                local = info[4:8]  # ipi_spec_dst: where it was sent to, as seen here
                level, kind = socket.IPPROTO_IP, _IP_PKTINFO
                back = struct.pack("=i4s4s", 0, local, b"\0" * 4)
            else:
                level, kind = socket.IPPROTO_IPV6, _IPV6_PKTINFO
                back = info[:16] + bytes(4)
            with contextlib.suppress(OSError):
                sock.sendmsg([sent_back], [(level, kind, back)], 0, sender)

    def _which(self, packet: Sighting | None) -> Seen | None:
        """What is known of the question, round and direction that a packet belongs to."""
        if packet is None or (packet.number, packet.round) not in self._found:
            return None
        found = self._found[packet.number, packet.round]
        return found.reply if packet.is_reply else found.request


def _received(sock: socket.socket) -> Iterator[tuple[bytes, tuple[str, int, int, int, bytes]]]:
    while True:
        try:
            yield sock.recvfrom(2048)
        except BlockingIOError:
            return


def _packets(sock: socket.socket) -> Iterator[bytes]:
    return (data for data, _ in _received(sock))


def _messages(sock: socket.socket) -> Iterator[Sighting | None]:
    """What a raw socket of IPv6 got: it is not given the header."""
    while True:
        try:
            data, extra, _, sender = sock.recvmsg(2048, 256)
        except BlockingIOError:
            return
        (_, _, info), *_ = extra
        dst = socket.inet_ntop(socket.AF_INET6, info[:16])
        yield upper(sock.proto, data, sender[0], dst)
