"""Netlink: questions to the kernel and whole answers, as bytes.

    with Netlink() as kernel:
        links = kernel.dump(RTM_GETLINK, header)

Decoding is left to others, for that is where the time goes: the messages of 2,000 links take
the kernel 20 ms. The socket belongs to the network namespace of the thread that opens it.
Source: netlink(7), Documentation/userspace-api/netlink/intro.rst, net/netlink/af_netlink.c.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType

ROUTE = 0
SOCK_DIAG = 4
NETFILTER = 12
GENERIC = 16

_HEADER = struct.Struct("=IHHII")
_ERROR, _DONE, _OVERRUN = 2, 3, 4
_REQUEST, _DUMP, _DUMP_INTERRUPTED = 0x001, 0x300, 0x010
_SOL_NETLINK = 270
_GET_STRICT_CHK = 12
_LARGEST = 1 << 18
_BUFFER = 1 << 22
_SECONDS = 10
_ATTEMPTS = 5


class NetlinkError(OSError):
    """The kernel refused; ``errno`` says why."""


class Netlink:
    """A socket to one netlink protocol, to be used in a ``with`` statement.

    Raises:
        OSError: this kernel does not have the protocol.

    """

    def __init__(self, protocol: int = ROUTE) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol
        )
        self._socket.settimeout(_SECONDS)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        # The kernel looks at the filters of a dump only if it may be strict about them.
        # Before 4.20 it may not, and tells more than was asked for.
        with suppress(OSError):
            self._socket.setsockopt(_SOL_NETLINK, _GET_STRICT_CHK, 1)
        self._socket.bind((0, 0))
        self._number = 0
        self._interrupted = False

    def __enter__(self) -> Netlink:
        """The open socket."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self._socket.close()

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """All messages of a dump, without their netlink headers.

        It is asked for again while the kernel says that it changed underway.

        Raises:
            PermissionError: it takes more rights.
            NetlinkError: the kernel refused, or it changed each time.
            TimeoutError: no answer came within ten seconds.
            OSError: the socket failed.

        """
        for _ in range(_ATTEMPTS):
            answers = list(self._answers(kind, _REQUEST | _DUMP, body))
            if not self._interrupted:
                return answers
        raise NetlinkError(errno.EAGAIN, f"it kept changing while it was read, {_ATTEMPTS} times")

    def each(self, kind: int, body: bytes) -> Iterator[bytes]:
        """The messages of a dump one by one, where they may be too many to keep them all.

        What changes underway may be missing or come twice. Raises as :meth:`dump` does.
        """
        return self._answers(kind, _REQUEST | _DUMP, body)

    def ask(self, kind: int, body: bytes) -> list[bytes]:
        """The answer to a question about one thing; raises as :meth:`dump` does."""
        return list(self._answers(kind, _REQUEST, body))

    def _answers(self, kind: int, flags: int, body: bytes) -> Iterator[bytes]:
        """Each message of an answer; ``_interrupted`` tells whether it changed meanwhile."""
        self._number += 1
        self._interrupted = False
        header = _HEADER.pack(_HEADER.size + len(body), kind, flags, self._number, 0)
        self._socket.send(header + body)
        while True:
            for answer_kind, answer_flags, payload in self._datagram():
                if answer_flags & _DUMP_INTERRUPTED:
                    self._interrupted = True
                if answer_kind in (_ERROR, _DONE):
                    # A dump that fails in the middle says so at its end.
                    _raise(payload)
                    return
                if answer_kind != _OVERRUN:
                    yield payload
            if not flags & _DUMP:
                return

    def _datagram(self) -> Iterator[tuple[int, int, bytes]]:
        """Kind, flags and payload of each message; those that answer something else are none."""
        data, _, flags, sender = self._socket.recvmsg(_LARGEST)
        if flags & socket.MSG_TRUNC:
            raise NetlinkError(errno.EMSGSIZE, f"an answer is longer than {_LARGEST} bytes")
        if sender[0] != 0:
            return
        start = 0
        while start + _HEADER.size <= len(data):
            length, kind, flags, number, _ = _HEADER.unpack_from(data, start)
            if not _HEADER.size <= length <= len(data) - start:
                raise NetlinkError(errno.EBADMSG, "an answer is cut off")
            if number == self._number:
                yield kind, flags, data[start + _HEADER.size : start + length]
            start += (length + 3) & ~3


def _raise(payload: bytes) -> None:
    code = -struct.unpack_from("=i", payload)[0] if len(payload) >= 4 else 0
    if code in (errno.EPERM, errno.EACCES):
        raise PermissionError(code, os.strerror(code))
    if code:
        raise NetlinkError(code, os.strerror(code))
