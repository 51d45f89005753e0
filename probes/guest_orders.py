"""What a guest is told to start so that it sends a probe: its own ping, or a few lines of Python.

What ping lets us choose of the payload is the mark: sixteen bytes, again and again, with the
ping of iputils, which writes the time over the first sixteen of a longer payload; with busybox
one byte, behind the four that it keeps for the time. Busybox cannot set DF. Only the exit codes
of the programs are looked at.
Source: ping(8), iputils ping/ping_common.c, busybox networking/ping.c; tcp(7) TCP_REPAIR.
"""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import msgspec

from kvmdiag.errors import NotReadableError
from kvmdiag.model.question import Question
from kvmdiag.probes.guest_programs import Inside
from kvmdiag.probes.headers import IP_HEADERS
from kvmdiag.probes.observation import RESET, Answer
from kvmdiag.probes.packet import Probe

WAIT = 2
"""How long a program inside waits for an answer, in seconds."""

_SHORT = 15
"""The longest payload into which iputils writes no time (RFC 792 leaves it free)."""

_TIME = 16
_BUSYBOX_SIZE, _BUSYBOX_TIME = 56, 4
_ECHO_HEADER = 8
_SILENCE, _ERRORS = 2, 100
_FIRST_PORT, _PORTS = 32768, 28000
_OWN = frozenset({errno.EPERM, errno.EACCES, errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRINUSE})

_SCRIPT = """
import socket, struct, sys
kind, address, port, link, source, own, number, payload, wait = sys.argv[1:]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
kinds = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
try:
    probe = socket.socket(family, kinds[kind])
    if link:
        probe.setsockopt(socket.SOL_SOCKET, 25, link.encode() + b"\\0")
    probe.bind((source, int(own)))
    probe.settimeout(float(wait))
    if kind == "tcp":
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
        first = struct.pack("=I", int(number))
        for option, value in ((7, 1), (19, 1), (20, 2), (21, first), (19, 0)):
            probe.setsockopt(socket.IPPROTO_TCP, option, value)
    probe.connect((address, int(port)))
    if kind == "udp":
        probe.send(bytes.fromhex(payload))
        probe.recv(1)
except socket.timeout:
    sys.exit(2)
except OSError as error:
    sys.exit(100 + (error.errno or 0))
"""


class Order(NamedTuple):
    """A program to be started, the probe as it will send it, and what its exit code means."""

    name: str
    path: str
    arguments: list[str]
    probe: Probe
    meaning: Callable[[int], Answer | None]


def order(inside: Inside, question: Question, probe: Probe) -> Order:
    """How this guest can send that probe.

    Raises:
        NotReadableError: it cannot.

    """
    if probe.proto in ("tcp", "udp"):
        return _by_python(inside, question, probe)
    return _by_ping(inside, question, probe)


def _by_ping(inside: Inside, question: Question, probe: Probe) -> Order:
    path, full = inside.ping()
    if not full and probe.size is not None:
        raise NotReadableError("the guest's ping cannot set DF")
    probe = _marked(probe, full=full)
    found = ["-c", "1", "-W", str(WAIT)]
    if full:
        found += ["-n", "-s", str(_payload(probe)), "-p", (probe.mark * 2).hex()]
        found += ["-M", "do"] if probe.size is not None else []
    else:
        found += ["-s", str(_BUSYBOX_SIZE), "-p", probe.mark[:1].hex()]
    bound = question.source.link or question.source.address
    if bound is not None:
        found += ["-I", bound]
    found.append(question.destination.address or "")
    return Order("ping", path, found, probe, _of_ping)


def _payload(probe: Probe) -> int:
    """How long ping's payload is to be; a short one has room for no time."""
    if probe.size is None:
        return _SHORT
    return max(0, probe.size - IP_HEADERS[probe.version] - _ECHO_HEADER)


def _marked(probe: Probe, *, full: bool) -> Probe:
    """With the mark where ping puts it, and what ping cannot write as it will be."""
    if full:
        length = _payload(probe)
        if length < len(probe.mark) or _SHORT < length < _TIME + len(probe.mark):
            raise NotReadableError("so small a ping has no room for a mark")
        return msgspec.structs.replace(probe, mark_at=_TIME if length > _SHORT else 0)
    byte = probe.mark[:1] if probe.mark[0] else b"\xa5"  # zeros are everywhere
    return msgspec.structs.replace(probe, mark=byte * len(probe.mark), mark_at=_BUSYBOX_TIME)


def _of_ping(code: int) -> Answer | None:
    if code:
        return None
    return Answer(kind="reply", text="ping inside the guest got the reply", time_ns=time.time_ns())


def _by_python(inside: Inside, question: Question, probe: Probe) -> Order:
    path = inside.python()
    probe = msgspec.structs.replace(probe, ident=_FIRST_PORT + secrets.randbelow(_PORTS))
    arguments = [
        "-I", "-S", "-c", _SCRIPT, probe.proto, question.destination.address or "",
        str(probe.port or 0), question.source.link or "", question.source.address or "",
        str(probe.ident), str(probe.number), probe.data.hex(), str(WAIT),
    ]  # fmt: skip
    refused = (
        RESET if probe.proto == "tcp" else "the guest is told that nobody listens on that port"
    )
    meaning = partial(_of_socket, refused)
    return Order(f"python3 ({probe.proto})", path, arguments, probe, meaning)


def _of_socket(refused: str, code: int) -> Answer | None:
    now = time.time_ns()
    if code == 0:
        return Answer(kind="reply", text="a socket inside the guest got the reply", time_ns=now)
    if code == _SILENCE:
        return None
    if code == _ERRORS + errno.ECONNREFUSED:
        return Answer(kind="refused", text=refused, time_ns=now)
    if code <= _ERRORS:
        return Answer(kind="error", text="python3 inside the guest failed", time_ns=now, local=True)
    number = code - _ERRORS
    return Answer(kind="error", text=os.strerror(number), time_ns=now, local=number in _OWN)
