"""Sends real packets through a network that stands, and writes down where they were seen."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address

from differential.build import Built
from differential.plan import PORTS, Ask
from kvmdiag.system.namespaces import entered

_ALL = 3
_IP = 0x0800
_OUTGOING, _OTHER_HOST = 4, 3
_ICMP, _TCP, _UDP = 1, 6, 17
_IP_PKTINFO = 8
FIRST_PORT = 40000
_SYN, _ACK, _RST = 0x02, 0x10, 0x04


@dataclass(frozen=True, order=True)
class Crossing:
    """A packet seen on a link: ``way`` is in or out, ``ours`` false for another's frame."""

    stack: str
    link: str
    way: str


@dataclass(frozen=True, order=True)
class Arrival:
    """A packet given to the sockets of a stack, with the addresses it had by then."""

    stack: str
    src: str
    dst: str
    dport: int | None


@dataclass
class Seen:
    """All that was seen of one direction of one question."""

    crossings: set[Crossing] = field(default_factory=set)
    strays: set[Crossing] = field(default_factory=set)
    """Copies for somebody else: flooded, and dropped by whoever got them."""
    arrivals: set[Arrival] = field(default_factory=set)


@dataclass
class Observation:
    """What became of one question."""

    request: Seen = field(default_factory=Seen)
    reply: Seen = field(default_factory=Seen)


class Watch:
    """Sockets in every stack: they listen, answer, and see what passes."""

    def __init__(self, network: Built) -> None:
        self._network = network
        self._opened = contextlib.ExitStack()
        self._selector = self._opened.enter_context(selectors.DefaultSelector())
        self._found = [Observation() for _ in network.case.asks]

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

    def ask(self, quiet: float, longest: float = 4.0) -> list[Observation]:
        """Ask everything the case asks, and watch until all is quiet."""
        for number, ask in enumerate(self._network.case.asks):
            self._send(number, ask)
        self._until_quiet(quiet, longest)
        return self._found

    def _open(self, stack: str) -> None:
        wire = self._socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
        self._on(wire, self._frames, stack)
        for proto in (_ICMP, _TCP, _UDP):
            raw = self._socket(socket.AF_INET, socket.SOCK_RAW, proto)
            self._on(raw, self._arrivals, stack)
        for port in PORTS:
            tcp = self._socket(socket.AF_INET, socket.SOCK_STREAM, 0)
            tcp.bind(("0.0.0.0", port))
            tcp.listen(32)
            udp = self._socket(socket.AF_INET, socket.SOCK_DGRAM, 0)
            udp.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            udp.bind(("0.0.0.0", port))
            self._on(udp, self._echo, stack)

    def _socket(self, family: int, kind: int, proto: int) -> socket.socket:
        sock = self._opened.enter_context(socket.socket(family, kind, proto))
        sock.setblocking(False)
        return sock

    def _on(self, sock: socket.socket, handler: object, stack: str) -> None:
        self._selector.register(sock, selectors.EVENT_READ, (handler, stack))

    def _send(self, number: int, ask: Ask) -> None:
        """The kernel itself sends: it selects the source, and may well refuse."""
        with entered(self._network.path(ask.source)), contextlib.suppress(OSError):
            port = FIRST_PORT + number
            source = ask.bound or "0.0.0.0"
            if ask.proto == "icmp":
                sock = self._socket(socket.AF_INET, socket.SOCK_RAW, _ICMP)
                sock.bind((source, 0))
                sock.sendto(_echo_request(port), (ask.address, 0))
                return
            kind = socket.SOCK_STREAM if ask.proto == "tcp" else socket.SOCK_DGRAM
            sock = self._socket(socket.AF_INET, kind, 0)
            sock.bind((source, port))
            sock.connect((ask.address, ask.port))
            if ask.proto == "udp":
                sock.send(b"kvmdiag")

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
            if proto != _IP or link == "lo":
                continue
            seen = self._which(_parse(data[14:]))
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
        for data, _ in _received(sock):
            packet = _parse(data)
            seen = self._which(packet)
            if packet is None or seen is None:
                continue
            ours = True
            is_reply = self._number(packet.dport) is not None
            dport = None if packet.proto == _ICMP or is_reply else packet.dport
            seen.arrivals.add(Arrival(stack, packet.src, packet.dst, dport))
        return ours

    def _echo(self, sock: socket.socket, stack: str) -> bool:
        """Send a datagram back, from the address it was sent to."""
        del stack
        while True:
            try:
                data, extra, _, sender = sock.recvmsg(2048, 256)
            except BlockingIOError:
                return True
            _, _, info = extra[0]
            local = info[4:8]  # ipi_spec_dst: where it was sent to, as seen here
            back = struct.pack("=i4s4s", 0, local, b"\0" * 4)
            with contextlib.suppress(OSError):
                sock.sendmsg([data], [(socket.IPPROTO_IP, _IP_PKTINFO, back)], 0, sender)

    def _which(self, packet: _Packet | None) -> Seen | None:
        """The question, and the direction, that a packet belongs to."""
        if packet is None:
            return None
        request = self._number(packet.sport)
        reply = self._number(packet.dport)
        if packet.proto == _ICMP:
            if packet.flags == 8 and request is not None:
                return self._found[request].request
            if packet.flags == 0 and request is not None:
                return self._found[request].reply
            return None
        if packet.proto == _TCP:
            flags = packet.flags & (_SYN | _ACK | _RST)
            if flags == _SYN and request is not None:
                return self._found[request].request
            if flags == _SYN | _ACK and reply is not None:
                return self._found[reply].reply
            return None
        if request is not None:
            return self._found[request].request
        return self._found[reply].reply if reply is not None else None

    def _number(self, port: int) -> int | None:
        number = port - FIRST_PORT
        return number if 0 <= number < len(self._found) else None


@dataclass(frozen=True)
class _Packet:
    proto: int
    src: str
    dst: str
    sport: int
    dport: int
    flags: int
    """TCP flags, or the type of ICMP."""


def _received(sock: socket.socket) -> Iterator[tuple[bytes, tuple[str, int, int, int, bytes]]]:
    while True:
        try:
            yield sock.recvfrom(2048)
        except BlockingIOError:
            return


def _parse(data: bytes) -> _Packet | None:
    if len(data) < 28 or data[0] >> 4 != 4:
        return None
    at = (data[0] & 15) * 4
    proto = data[9]
    src, dst = str(ip_address(data[12:16])), str(ip_address(data[16:20]))
    if proto == _ICMP:
        kind, _, _, number = struct.unpack_from("!BBHH", data, at)
        return _Packet(proto, src, dst, number, number, kind)
    if proto in (_TCP, _UDP):
        sport, dport = struct.unpack_from("!HH", data, at)
        flags = data[at + 13] if proto == _TCP and len(data) >= at + 20 else 0
        return _Packet(proto, src, dst, sport, dport, flags)
    return None


def _echo_request(number: int) -> bytes:
    body = b"kvmdiag!" * 7
    header = struct.pack("!BBHHH", 8, 0, 0, number, 1)
    return struct.pack("!BBHHH", 8, 0, _checksum(header + body), number, 1) + body


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF
