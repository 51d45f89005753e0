"""Sending a probe from inside its source, and listening there for what comes back.

The probe goes the way ``ping`` goes: through the source's own routing, OUTPUT hooks and
source address selection, never as a ready frame onto a wire. What the socket receives has
passed the source's rp_filter and INPUT hooks too, so it is proof that the reply arrived.
Source: raw(7), icmp(7), net/ipv4/raw.c.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from ipaddress import ip_address
from typing import Self

import msgspec

from kvmdiag.errors import NotReadableError, UsageError
from kvmdiag.model.question import Question
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack
from kvmdiag.probes import bpf, errors
from kvmdiag.probes.capture import Frame
from kvmdiag.probes.observation import Answer
from kvmdiag.probes.packet import Probe, build, dissect, echo_key
from kvmdiag.probes.sender import Polled
from kvmdiag.system.namespaces import entered

_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _DISCOVER_BY_PROBING = 10, 23, 3
_NUMBERS = {
    "icmp": socket.IPPROTO_ICMP,
    "icmpv6": socket.IPPROTO_ICMPV6,
    "tcp": socket.IPPROTO_TCP,
    "udp": socket.IPPROTO_UDP,
}


def source_stack(snapshot: Snapshot, question: Question) -> Stack:
    """The stack that sends.

    Raises:
        NotReadableError: nobody but its owner can enter it.
        UsageError: the source is not a stack of the snapshot.

    """
    name = question.source.stack
    known = {stack.name: stack for stack in snapshot.stacks}
    if name is None or name not in known:
        raise UsageError(f"{question.source.text} is not a machine of this host: cannot send there")
    stack = known[name]
    if stack.netns is None:
        raise NotReadableError(
            f"cannot send from inside {name}: kvmdiag has no way in; "
            "--no-probe predicts the way without sending"
        )
    return stack


class SocketSender:
    """The probe's own socket in the source; see ``Sender``.

    ``probe`` is the probe as it will be sent: its ``ident`` is a source port that the kernel
    has reserved for it when there are ports.

    Raises:
        NotReadableError: the socket is not allowed.
        UsageError: the source has no such link or address.

    """

    remarks: tuple[str, ...] = ()
    bypassed: str | None = None
    delay = 0.0
    over = False

    def __init__(self, stack: Stack, question: Question, probe: Probe) -> None:
        self._question = question
        self._destination = question.destination.address or ""
        self._family = socket.AF_INET if probe.version == 4 else socket.AF_INET6
        self._refusal: OSError | None = None
        self._message = b""
        self.probe = probe
        self.sent_ns = 0
        if probe.proto in ("tcp", "udp"):
            require_port(probe)
        with entered(stack.netns or ""):
            self._socket = self._open(stack)
            try:
                self._connect(stack)
            except BaseException:
                self._socket.close()
                raise
        bpf.attach(self._socket, (self.probe,))

    def _open(self, stack: Stack) -> socket.socket:
        kind = socket.SOCK_DGRAM if self.probe.proto == "udp" else socket.SOCK_RAW
        try:
            opened = socket.socket(self._family, kind, _NUMBERS[self.probe.proto])
        except PermissionError:
            raise NotReadableError(
                f"not allowed to send from {stack.name}: run as root (sudo), "
                "or --no-probe to predict only"
            ) from None
        except OSError as error:
            raise NotReadableError(f"cannot send from {stack.name}: {error.strerror}") from None
        opened.setblocking(False)
        return opened

    def _connect(self, stack: Stack) -> None:
        """Bind as asked and let the kernel choose the route, the source address and the port."""
        bind_source(self._socket, stack, self._question)
        errors.listen_for_errors(self._socket)
        if self.probe.size is not None:
            self._never_fragment()
        port = self.probe.port if self.probe.proto == "udp" else 0
        try:
            self._socket.connect((self._destination, port))
        except OSError as error:
            self._refusal = error  # no route, say: an observation, not a failure
            return
        if self.probe.proto == "udp":
            port = self._socket.getsockname()[1]
            self.probe = msgspec.structs.replace(self.probe, ident=port)

    def _never_fragment(self) -> None:
        """Set DF, and let no path MTU that the kernel remembers keep the probe from leaving."""
        if self._family == socket.AF_INET:
            self._socket.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _DISCOVER_BY_PROBING)
        else:
            self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _DISCOVER_BY_PROBING)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def polled(self) -> Polled:
        """Readable when ``receive`` may have an answer."""
        return Polled(self._socket.fileno(), selectors.EVENT_READ)

    def prepare(self) -> None:
        """Do the slow part of sending (scapy) ahead of the time that is measured."""
        if self._refusal is None:
            self._message = self._build()

    def send(self) -> Answer | None:
        """Send the probe; an answer comes at once when the source's own kernel refuses."""
        self.sent_ns = time.time_ns()
        if self._refusal is not None:
            return refused_here(self._refusal)
        try:
            self._socket.send(self._message)
        except OSError as error:
            return refused_here(error)
        return None

    def _build(self) -> bytes:
        if self.probe.proto == "udp":
            return self.probe.data
        return build(self.probe, self._socket.getsockname()[0], self._destination)

    def receive(self) -> Answer | None:
        """The answer, if it is there; anything else that came is thrown away."""
        for _ in range(64):
            try:
                data = self._socket.recv(2048)
            except BlockingIOError:
                return None
            except OSError as error:
                answer = self._failed(error)
            else:
                answer = self._judge(data)
            if answer is not None:
                return answer
        return None

    def _failed(self, error: OSError) -> Answer | None:
        """The ICMP error behind it; a raw socket also gets those that other probes caused."""
        now = time.time_ns()
        told = list(errors.take(self._socket))
        if not told:
            return Answer(kind="error", text=_words(error), time_ns=now)
        destination = ip_address(self._destination)
        for one in told:
            if self.probe.proto == "udp" and one.is_refusal_of(destination):
                text = f"{destination} says that nobody listens on that port"
                return Answer(kind="refused", text=text, time_ns=now)
            if self.probe.proto == "udp" or one.quoted[4:8] == echo_key(self.probe):
                return Answer(kind="error", text=str(one), time_ns=now, mtu=one.mtu)
        return None

    def recognise(self, stack: str, frame: Frame) -> None:
        """The socket says it all."""
        del stack, frame

    def _judge(self, data: bytes) -> Answer | None:
        """What a received message says. Raw IPv4 sockets give the IP header, others do not."""
        now = time.time_ns()
        if self.probe.proto == "udp":
            return Answer(kind="reply", text="a datagram came back", time_ns=now)
        if self._family == socket.AF_INET6:
            data = _with_header(data, self.probe)
        found = dissect(data, self.probe)
        if found is None or found.direction != "reply":
            return None
        if found.quoted:
            kind, code = found.packet.icmp_type, found.packet.icmp_code
            text = f"ICMP error {kind}/{code} from {found.packet.src}"
            return Answer(kind="error", text=text, time_ns=now, mtu=found.mtu)
        return Answer(kind="reply", text="the reply came back", time_ns=now)


def _with_header(data: bytes, probe: Probe) -> bytes:
    """A raw IPv6 socket delivers no header (raw(7)); put one in front, to dissect alike."""
    header = bytes((0x60, 0, 0, 0)) + len(data).to_bytes(2, "big")
    return header + bytes((_NUMBERS[probe.proto], 64)) + bytes(32) + data


def require_port(probe: Probe) -> int:
    """The port that is asked for.

    Raises:
        UsageError: there is none.

    """
    if probe.port is None:
        raise UsageError(f"{probe.proto} needs a port: --port N")
    return probe.port


def bind_source(sock: socket.socket, stack: Stack, question: Question) -> None:
    """Bind to the NIC or the address that the question names for its source.

    Raises:
        UsageError: the source has no such link or address.

    """
    source = question.source
    try:
        if source.link is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, source.link.encode() + b"\0")
        if source.address is not None:
            sock.bind((source.address, 0))
    except OSError as error:
        what = source.address or source.link
        raise UsageError(f"cannot send from {what} of {stack.name}: {error.strerror}") from None


def refused_here(error: OSError) -> Answer:
    """What it means that the source's own kernel does not send."""
    return Answer(kind="error", text=_words(error), time_ns=time.time_ns(), local=True)


def _words(error: OSError) -> str:
    if error.errno == errno.EPERM:
        return "Operation not permitted: a rule of the source's own OUTPUT drops it"
    return os.strerror(error.errno or 0)
