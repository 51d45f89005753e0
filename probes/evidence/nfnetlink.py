"""Messages to and from netfilter over netlink.

Source: netlink(7), include/uapi/linux/netfilter/nfnetlink.h, net/netfilter/nfnetlink.c.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

NFTABLES, ULOG = 10, 4
ACKNOWLEDGE = 0x004
CREATE = 0x400
APPEND = 0x800

_PROTOCOL = 12
_REQUEST, _DUMP = 0x001, 0x300
_ERROR, _DONE = 2, 3
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_HEADER = struct.Struct("=IHHII")
_GENERAL = struct.Struct("=BBH")  # family, version, resource (in network order)
_NESTED, _KIND = 0x8000, 0x3FFF
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_RECEIVE_BUFFER_FORCE = 33
_BUFFER = 1 << 22
_LARGEST = 1 << 18
_MOST_AT_ONCE = 8192


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def text(kind: int, value: str) -> bytes:
    """A string, with its closing zero."""
    return attribute(kind, value.encode() + b"\0")


def number(kind: int, value: int) -> bytes:
    """32 bits in network order, signed ones too."""
    return attribute(kind, (value & 0xFFFFFFFF).to_bytes(4, "big"))


def long_number(kind: int, value: int) -> bytes:
    """64 bits in network order."""
    return attribute(kind, value.to_bytes(8, "big"))


def nest(kind: int, *inner: bytes) -> bytes:
    """An attribute made of attributes."""
    return attribute(kind | _NESTED, b"".join(inner))


def attributes(data: bytes) -> dict[int, bytes]:
    """Attributes by number; of several alike the last."""
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if not 4 <= length <= len(data):
            break
        found[kind & _KIND] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found


class Message(NamedTuple):
    """A message of a subsystem; ``kind`` holds the subsystem in its upper byte."""

    kind: int
    family: int
    body: bytes

    @property
    def attributes(self) -> dict[int, bytes]:
        """Its attributes by number."""
        return attributes(self.body)


class Request(NamedTuple):
    """What is asked of a subsystem; see :class:`Message`."""

    kind: int
    family: int
    body: bytes
    flags: int = ACKNOWLEDGE
    resource: int = 0


class Channel:
    """A netlink socket of the calling thread's namespace.

    What the kernel ties to a socket (nft's ``flags owner``, an NFLOG group, a membership) ends
    with it, also when the process is killed.

    Raises:
        OSError: no netfilter netlink in this kernel, or not allowed.

    """

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, _PROTOCOL)
        self._sequence = 0
        try:
            self._socket.settimeout(5)
            self._socket.bind((0, 0))
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Readable when there are messages."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close it; what is tied to it goes."""
        self._socket.close()

    def listen(self, group: int | None = None) -> None:
        """Receive from now on without waiting, and what is sent to the group."""
        self._socket.setsockopt(socket.SOL_SOCKET, _RECEIVE_BUFFER_FORCE, _BUFFER)
        if group is not None:
            self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        self._socket.setblocking(False)

    def ask(self, request: Request) -> None:
        """One request, carried out or refused (OSError)."""
        self._socket.send(self._packed(request))
        self._acknowledged(1)

    def carry_out(self, requests: Sequence[Request]) -> None:
        """A batch for nf_tables: all of it or, with an OSError, nothing."""
        begin = Request(_BATCH_BEGIN, 0, b"", 0, NFTABLES)
        end = Request(_BATCH_END, 0, b"", 0, NFTABLES)
        self._socket.send(b"".join(self._packed(one) for one in (begin, *requests, end)))
        self._acknowledged(len(requests))

    def dump(self, kind: int, body: bytes = b"") -> Iterator[Message]:
        """All answers to a request for a list."""
        self._socket.send(self._packed(Request(kind, 0, body, _DUMP)))
        while True:
            for kind_, payload in self._datagram():
                if kind_ in (_ERROR, _DONE):
                    _raise(payload)
                    return
                yield Message(kind_, payload[0], payload[_GENERAL.size :])

    def waiting(self) -> Iterator[Message]:
        """The messages that are there; of an endless stream the first thousands.

        Raises:
            OSError: ENOBUFS: there were more than could be kept.

        """
        for _ in range(_MOST_AT_ONCE):
            try:
                datagram = self._datagram()
            except BlockingIOError:
                return
            for kind, payload in datagram:
                if len(payload) >= _GENERAL.size:
                    yield Message(kind, payload[0], payload[_GENERAL.size :])

    def _packed(self, request: Request) -> bytes:
        self._sequence += 1
        body = _GENERAL.pack(request.family, 0, socket.htons(request.resource)) + request.body
        return (
            _HEADER.pack(
                _HEADER.size + len(body),
                request.kind,
                _REQUEST | request.flags,
                self._sequence,
                0,
            )
            + body
        )

    def _acknowledged(self, count: int) -> None:
        while count > 0:
            for kind, payload in self._datagram():
                if kind == _ERROR:
                    _raise(payload)
                    count -= 1

    def _datagram(self) -> list[tuple[int, bytes]]:
        data = self._socket.recv(_LARGEST)
        found = []
        while len(data) >= _HEADER.size:
            length, kind, *_ = _HEADER.unpack_from(data)
            if not _HEADER.size <= length <= len(data):
                break
            found.append((kind, data[_HEADER.size : length]))
            data = data[(length + 3) & ~3 :]
        return found


def _raise(payload: bytes) -> None:
    code = -struct.unpack_from("=i", payload)[0] if len(payload) >= 4 else 0
    if code:
        raise OSError(code, os.strerror(code))


ABSENT = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.ENOENT})
"""What the kernel answers where it has no such subsystem, or not this part of it."""
