"""Watching every link of a namespace with one socket.

Nothing outlives the socket: filter, ring and the promiscuous mode of bridges end with it, also
when the process is killed. The kernel writes what passes the filter into a ring of memory, with
the time it came. (The time stamps of an ordinary socket would have to be switched on for every
packet of the machine, and that takes effect only some milliseconds later.)
Source: packet(7), Documentation/networking/packet_mmap.rst, net/packet/af_packet.c.
"""

from __future__ import annotations

import ctypes
import heapq
import mmap
import os
import socket
import struct
from collections import Counter, deque
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import NamedTuple

from kvmdiag.errors import NotReadableError
from kvmdiag.model.stack import Stack
from kvmdiag.probes import bpf
from kvmdiag.probes.datagram import carried
from kvmdiag.probes.headers import VLAN_TYPES
from kvmdiag.probes.observation import CapturedFrame, Passing, Sighting
from kvmdiag.probes.packet import Probe, dissect
from kvmdiag.system.namespaces import entered

MOST_FRAMES = 1024
"""How many frames wait in the ring of one namespace, and how many doubtful ones are kept."""

MOST_OF_A_LINK = 64
"""How much is kept of one link and way; a guest may send the probe back without end."""

_SOL_PACKET = 263
_ADD_MEMBERSHIP, _RX_RING, _VERSION = 1, 5, 10
_PROMISCUOUS, _TPACKET_V2 = 1, 1
_ALL_PROTOCOLS = 3
_OUTGOING, _OTHER_HOST = 4, 3
_ETHERNET, _LOOPBACK = 1, 772

_FRAME, _BLOCK = 512, 1 << 16
_OURS, _KERNELS = 1, 0
_HEADER = struct.Struct("=IIIHHII")  # struct tpacket2_hdr as far as it is of use
_ADDRESS_AT = 32
_ADDRESS = struct.Struct("=HHiHB")  # struct sockaddr_ll up to the packet type


class Frame(NamedTuple):
    """A frame as it was captured, not yet looked into; ``length`` is what it had on the wire."""

    link: str
    kind: int
    hardware: int
    time_ns: int
    data: bytes
    length: int

    @property
    def outgoing(self) -> bool:
        """True when it leaves the stack by this link."""
        return self.kind == _OUTGOING


class Capture:
    """The capture socket of one stack; a context manager.

    It sees what the filter ``code`` accepts (see ``bpf``). What bears none of the ``marks`` is
    kept apart, so that it cannot crowd out what does; without marks all is kept alike.
    ``bridges`` get promiscuous so that they show, as under tcpdump, also what they merely
    bridge.

    Raises:
        NotReadableError: the namespace cannot be entered, or sockets of this kind are not
            allowed.

    """

    def __init__(
        self,
        stack: Stack,
        code: bytes,
        bridges: Iterable[int] = (),
        marks: Sequence[bytes] = (),
    ) -> None:
        if stack.netns is None:
            raise NotReadableError(f"{stack.name} cannot be entered, so nothing is seen inside")
        self.stack = stack.name
        self.truncated = False
        self._names = {link.index: link.name for link in stack.links or ()}
        self._marks = tuple(marks)
        self._frames: list[Frame] = []
        self._doubtful: deque[Frame] = deque(maxlen=MOST_FRAMES)
        self._kept: Counter[tuple[int, int]] = Counter()
        self._next = 0
        with entered(stack.netns):
            self._socket = _open(stack.name)
        try:
            self._ring = self._prepare(code, bridges)
        except BaseException:
            self._socket.close()
            raise

    def _prepare(self, code: bytes, bridges: Iterable[int]) -> mmap.mmap:
        # Protocol 0 until the filter is in place: not one frame of others is received.
        bpf.attach_code(self._socket, code)
        self._socket.setsockopt(_SOL_PACKET, _VERSION, _TPACKET_V2)
        size = MOST_FRAMES * _FRAME
        request = struct.pack("=IIII", _BLOCK, size // _BLOCK, _FRAME, MOST_FRAMES)
        self._socket.setsockopt(_SOL_PACKET, _RX_RING, request)
        ring = mmap.mmap(self._socket.fileno(), size)
        for index in bridges:
            membership = struct.pack("=iHH8s", index, _PROMISCUOUS, 0, b"")
            try:
                self._socket.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, membership)
            except OSError:
                continue  # gone since it was listed; its port still shows the frame
        _bind_to_all_links(self._socket)
        return ring

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop watching."""
        self._ring.close()
        self._socket.close()

    def fileno(self) -> int:
        """For polling: readable when there are frames to drain."""
        return self._socket.fileno()

    def drain(self) -> list[Frame]:
        """Take in what has come, at most one ring full; those of it that are kept."""
        fresh = []
        for _ in range(MOST_FRAMES):
            at = self._next * _FRAME
            if not _HEADER.unpack_from(self._ring, at)[0] & _OURS:
                break
            _, _, index, _, kind = _ADDRESS.unpack_from(self._ring, at + _ADDRESS_AT)
            if self._kept[index, kind] < MOST_OF_A_LINK:
                frame = self._frame(at)
                fresh.append(frame)
                if self._is_sure(frame):
                    self._kept[index, kind] += 1
                    self._frames.append(frame)
                else:
                    self._doubtful.append(frame)
            else:
                self.truncated = True
            struct.pack_into("=I", self._ring, at, _KERNELS)
            self._next = (self._next + 1) % MOST_FRAMES
        return fresh

    def _frame(self, at: int) -> Frame:
        """The frame in the ring at that place."""
        _, length, captured, start, _, seconds, nanoseconds = _HEADER.unpack_from(self._ring, at)
        _, _, index, hardware, kind = _ADDRESS.unpack_from(self._ring, at + _ADDRESS_AT)
        return Frame(
            # A link that appeared after the snapshot keeps its number.
            link=self._names.get(index, f"#{index}"),
            kind=kind,
            hardware=hardware,
            time_ns=seconds * 1_000_000_000 + nanoseconds,
            data=self._ring[at + start : at + start + captured],
            length=length,
        )

    def _is_sure(self, frame: Frame) -> bool:
        """False for what only may be an answer: others talk to the same service."""
        return not self._marks or any(mark in frame.data for mark in self._marks)

    def frames(self) -> Iterator[Frame]:
        """What was drained and kept, in the order it was captured."""
        yield from heapq.merge(self._frames, self._doubtful, key=lambda frame: frame.time_ns)

    def sightings(self, probe: Probe, ports: Container[int] = ()) -> Iterator[Sighting]:
        """What was drained of one probe, in the order it was captured; ``ports``: see dissect."""
        for frame in self.frames():
            packet = without_link_layer(frame)
            found, tunnel = dissect(packet, probe, ports) if packet else None, None
            if found is None:
                tunnel = carried(packet, probe.tunnels)
                found = dissect(tunnel.inner, probe, ports) if tunnel is not None else None
            if found is None:
                continue
            yield Sighting(
                stack=self.stack,
                link=frame.link,
                direction_on_link=_passing(frame),
                direction=found.direction,
                packet=found.packet if tunnel is None else tunnel.carrier,
                time_ns=frame.time_ns,
                quoted=found.quoted,
                carried=None if tunnel is None else found.packet,
                frame=CapturedFrame(hardware=frame.hardware, data=frame.data, length=frame.length),
            )


def _open(stack: str) -> socket.socket:
    try:
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    except PermissionError:
        raise NotReadableError(
            f"not allowed to capture in {stack}: run as root (sudo), or --no-probe to predict only"
        ) from None
    except OSError as error:
        raise NotReadableError(f"cannot capture in {stack}: {error.strerror}") from None


def _bind_to_all_links(sock: socket.socket) -> None:
    """Bind to ifindex 0, which Python's ``bind`` has no words for."""
    address = struct.pack(
        "=HHiHBB8s", socket.AF_PACKET, socket.htons(_ALL_PROTOCOLS), 0, 0, 0, 0, b""
    )
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.bind(sock.fileno(), address, len(address)):
        code = ctypes.get_errno()
        raise NotReadableError(f"cannot capture on all links: {os.strerror(code)}")


def _passing(frame: Frame) -> Passing:
    if frame.outgoing:
        return "out"
    return "otherhost" if frame.kind == _OTHER_HOST else "in"


def without_link_layer(frame: Frame) -> bytes:
    """The IP packet in a frame (or what stands in its place)."""
    if frame.hardware not in (_ETHERNET, _LOOPBACK):
        return frame.data
    at = 12
    while frame.data[at : at + 2] in VLAN_TYPES and at < 20:
        at += 4
    return frame.data[at + 2 :]
