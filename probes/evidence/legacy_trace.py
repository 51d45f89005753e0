"""Rule by rule for legacy iptables, which logs what has the trace bit, by way of NFLOG.

The kernel's log of a namespace has to be told to go to NFLOG, by the sysctl
``net.netfilter.nf_log.N``, and a sysctl outlives the process that set it. So a process of its
own sets it, waits for its input to end, and puts the old value back: the end of the trace ends
its input, and so does ``kill -9``, for the kernel closes what was open. It is in a session of
its own, so that what is sent to the group of the trace does not reach it.

Group 0 of NFLOG can be had by one process only; who does not get it leaves the sysctl alone.
Source: net/ipv4/netfilter/ip_tables.c (trace_packet), net/netfilter/nf_log.c,
net/netfilter/nfnetlink_log.c.
"""

from __future__ import annotations

import errno
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from kvmdiag.model.packet import Direction
from kvmdiag.probes.evidence.nfnetlink import ULOG, Channel, Message, Request, attribute
from kvmdiag.probes.evidence.signature import recognise
from kvmdiag.probes.packet import Probe

MOST_EVENTS = 4096
"""Events that are kept of one namespace."""

_PACKET, _CONFIGURE = ULOG << 8, ULOG << 8 | 1
_COMMAND, _MODE = 1, 2
_BIND, _COPY_PACKET, _COPY_LENGTH = 1, 2, 128
_IN, _OUT, _PAYLOAD, _PREFIX = 4, 5, 9, 10
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_LOGGER = "nfnetlink_log"
_SYSCTL = "/proc/sys/net/netfilter/nf_log/{}"

_KEEPER = """
import signal, sys
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
path, logger = sys.argv[1:]
with open(path) as file:
    before = file.read().strip()
def put(value):
    with open(path, "w") as file:
        file.write(value)
try:
    put(logger)
    print(flush=True)
    sys.stdin.read()
finally:
    with open(path) as file:
        if file.read().strip() == logger:
            put(before)
"""


class LogEvent(NamedTuple):
    """A rule that matched (``number`` from 1), or the policy of a chain (``None``)."""

    probe: int
    direction: Direction
    table: str
    chain: str
    number: int | None
    in_index: int
    out_index: int


class LegacyTrace:
    """Receives the trace of legacy tables of the calling thread's namespace until it is closed.

    Raises:
        OSError: not to be had here; the message says why.

    """

    def __init__(self, probes: Sequence[Probe]) -> None:
        self.lost = False
        self._probes = probes
        self._events: list[LogEvent] = []
        self._keeper: subprocess.Popen[bytes] | None = None
        self._ears = Channel()
        try:
            self._bind()
            self._redirect(Path(_SYSCTL.format(int(_FAMILIES[probes[0].version]))))
            self._ears.listen()
        except BaseException:
            self.close()
            raise

    def _bind(self) -> None:
        mode = struct.pack(">IBx", _COPY_LENGTH, _COPY_PACKET)
        try:
            for body in (attribute(_COMMAND, bytes((_BIND,))), attribute(_MODE, mode)):
                self._ears.ask(Request(_CONFIGURE, socket.AF_UNSPEC, body))
        except OSError as error:
            if error.errno in (errno.EBUSY, errno.EPERM):
                why = "another program listens to NFLOG group 0"
                raise OSError(error.errno, why) from None
            raise

    def _redirect(self, sysctl: Path) -> None:
        if sysctl.read_text().strip() == _LOGGER:
            return
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _KEEPER, str(sysctl), _LOGGER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        if self._keeper.stdout is None or not self._keeper.stdout.read(1):
            raise OSError(errno.ENOENT, f"{sysctl} cannot be set to {_LOGGER}")

    def fileno(self) -> int:
        """Readable when there is something to drain."""
        return self._ears.fileno()

    def close(self) -> None:
        """Have the sysctl put back, and leave the group."""
        if self._keeper is not None:
            with suppress(OSError):
                self._keeper.communicate(timeout=5)
        self._ears.close()

    def drain(self) -> None:
        """Take in what has come."""
        for _ in range(2):  # once more after an overrun
            try:
                for message in self._ears.waiting():
                    if message.kind == _PACKET and len(self._events) < MOST_EVENTS:
                        self._take(message)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.lost = True

    def events(self) -> tuple[LogEvent, ...]:
        """What was drained, in the order it happened."""
        return tuple(self._events)

    def _take(self, message: Message) -> None:
        found = message.attributes
        known = recognise(found.get(_PAYLOAD, b""), self._probes)
        words = found.get(_PREFIX, b"").rstrip(b"\0").decode(errors="replace").strip()
        if known is None or not words.startswith("TRACE: "):
            return
        # A chain's name may hold colons; the words around it do not.
        table, _, rest = words.removeprefix("TRACE: ").partition(":")
        if rest.count(":") < 2:
            return
        chain, kind, number = rest.rsplit(":", 2)
        if kind not in ("rule", "policy") or not number.isdecimal():
            return  # the end of a chain, where nothing is decided
        self._events.append(
            LogEvent(
                probe=known[0],
                direction=known[1],
                table=table,
                chain=chain,
                number=int(number) if kind == "rule" else None,
                in_index=int.from_bytes(found.get(_IN, b""), "big"),
                out_index=int.from_bytes(found.get(_OUT, b""), "big"),
            )
        )
