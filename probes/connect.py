"""A TCP probe as a real connection attempt, whose first sequence number is ours.

A SYN from a raw socket would be routed without its ports, so that an ``ip rule`` on a port did
not apply. A connecting socket's SYN takes the way of every other connection of the source; the
number by which it is known is set beforehand in repair mode, which is meant for moving live
connections. Once there is an answer the connection is reset: nothing stays half open.
Source: tcp(7), net/ipv4/tcp.c tcp_repair_set_seq, net/ipv4/tcp_ipv4.c tcp_v4_connect.
"""

from __future__ import annotations

import errno
import selectors
import socket
import struct
import time
from typing import Self

import msgspec

from kvmdiag.errors import NotReadableError
from kvmdiag.model.question import Question
from kvmdiag.model.stack import Stack
from kvmdiag.probes import errors
from kvmdiag.probes.capture import Frame
from kvmdiag.probes.inject import bind_source, refused_here, require_port
from kvmdiag.probes.observation import RESET, Answer
from kvmdiag.probes.packet import Probe
from kvmdiag.probes.sender import Polled
from kvmdiag.system.namespaces import entered

_REPAIR, _REPAIR_QUEUE, _QUEUE_SEQ, _SYNCNT = 19, 20, 21, 7
_SEND_QUEUE = 2


class Connector:
    """The connecting socket in the source; see ``Sender``.

    Raises:
        NotReadableError: the socket, or choosing its number, is not allowed.
        UsageError: the source has no such link or address.

    """

    remarks: tuple[str, ...] = ()
    bypassed: str | None = None
    delay = 0.0
    over = False

    def __init__(self, stack: Stack, question: Question, probe: Probe) -> None:
        self._destination = (question.destination.address or "", require_port(probe))
        self.sent_ns = 0
        family = socket.AF_INET if probe.version == 4 else socket.AF_INET6
        with entered(stack.netns or ""):
            self._socket = socket.socket(family, socket.SOCK_STREAM)
            try:
                self._socket.setblocking(False)
                bind_source(self._socket, stack, question)
                self._choose_number(stack, probe.number)
            except BaseException:
                self._socket.close()
                raise
        self.probe = msgspec.structs.replace(probe, ident=self._socket.getsockname()[1])

    def _choose_number(self, stack: Stack, number: int) -> None:
        own = self._socket
        if own.getsockname()[1] == 0:
            own.bind(("", 0))
        errors.listen_for_errors(own)
        own.setsockopt(socket.IPPROTO_TCP, _SYNCNT, 1)
        try:
            own.setsockopt(socket.IPPROTO_TCP, _REPAIR, 1)
            own.setsockopt(socket.IPPROTO_TCP, _REPAIR_QUEUE, _SEND_QUEUE)
            own.setsockopt(socket.IPPROTO_TCP, _QUEUE_SEQ, struct.pack("=I", number))
            own.setsockopt(socket.IPPROTO_TCP, _REPAIR, 0)
        except OSError as error:
            raise NotReadableError(
                f"not allowed to send from {stack.name} ({error.strerror}): run as root (sudo), "
                "or --no-probe to predict only"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        reset = struct.pack("=ii", 1, 0)  # closing sends RST instead of FIN
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        self._socket.close()

    def polled(self) -> Polled:
        """Writable once the connection stands, readable when it failed."""
        return Polled(self._socket.fileno(), selectors.EVENT_READ | selectors.EVENT_WRITE)

    def prepare(self) -> None:
        """Nothing to do: the kernel builds the SYN."""

    def send(self) -> Answer | None:
        """Start connecting."""
        self.sent_ns = time.time_ns()
        try:
            self._socket.connect(self._destination)
        except BlockingIOError:
            return None
        except OSError as error:
            return refused_here(error)
        return self.receive()

    def receive(self) -> Answer | None:
        """How the attempt ended, if it has."""
        now = time.time_ns()
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            told = next(errors.take(self._socket), None)
            if told is not None:
                return Answer(kind="error", text=str(told), time_ns=now, mtu=told.mtu)
            if code == errno.ECONNREFUSED:
                return Answer(kind="refused", text=RESET, time_ns=now)
            return refused_here(OSError(code, ""))
        try:
            self._socket.getpeername()
        except OSError:
            return None
        return Answer(kind="reply", text="the connection was accepted", time_ns=now)

    def recognise(self, stack: str, frame: Frame) -> None:
        """The socket says it all."""
        del stack, frame
