"""A look inside a guest: its own tcpdump, started through its agent before the probe is sent.

It is bounded in all respects: so many packets, so many bytes of each, so many seconds, after
which ``timeout`` inside kills it, whatever became of us. What it prints is the guest's word; it
is taken for what happened on the guest's own NICs and on nothing else, and only what has the
probe's bytes in it counts. The guest's clock is not ours: its times are moved by as much as
brings the crossing of its tap together.
Source: tcpdump(1), pcap-filter(7).
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from kvmdiag.errors import KvmdiagError, NotReadableError
from kvmdiag.model.stack import Stack
from kvmdiag.probes.evidence.signature import protocol, signatures
from kvmdiag.probes.guest_programs import Inside
from kvmdiag.probes.headers import IP_HEADERS
from kvmdiag.probes.observation import CapturedFrame, Passing, Sighting
from kvmdiag.probes.packet import Probe, dissect

MOST_PACKETS = 64
MOST_SECONDS = 10
"""After this at the latest the guest kills it by itself."""

_SNAP = 192
_LONGEST = 1 << 18
_READY, _PAUSE = 4.0, 0.02
_MARGIN = 1
_SOCKETS = "/proc/net/packet"
_HEAD = re.compile(r"(\d{1,12})\.(\d{6}) (\S{1,15}) +(In|Out|P|B|M) ")
_BYTES = re.compile(r"\t0x[0-9a-f]{4}: {1,2}((?:[0-9a-f]{2}(?:[0-9a-f]{2})? ?){1,8})")
_NO_LINK_LAYER = 0xFFFE
_PROTOCOL_AT = 6
_NAMES = {"icmp": "icmp", "tcp": "tcp", "udp": "udp"}


class Packet(NamedTuple):
    """An IP packet that tcpdump printed; the time is the guest's."""

    time_ns: int
    link: str
    way: str
    data: bytes


class GuestCapture:
    """Watches probes inside one guest, from its making to ``finish``.

    With ``trouble`` what it did not see may have passed all the same: it may have begun too
    late, or did not end well. So it may where it shows nothing of the probe at all. A little
    after so many ``seconds`` the guest kills it by itself, in case nobody ends it.

    Raises:
        NotReadableError: there is no tcpdump or no ``timeout`` inside, or it does not start.

    """

    def __init__(
        self, stack: Stack, inside: Inside, probes: Sequence[Probe], seconds: float
    ) -> None:
        self.stack = stack.name
        self.trouble: str | None = None
        self._ended = False
        self._inside = inside
        self._links = {link.name for link in stack.links or ()}
        self._packets: tuple[Packet, ...] = ()
        tcpdump = inside.program("tcpdump", "--version")
        timeout = inside.program("timeout", "1", tcpdump, "--version")
        most = min(MOST_SECONDS, math.ceil(seconds) + _MARGIN)
        try:
            before = self._sockets()
            self._pid = inside.programs.start(
                timeout,
                ["-s", "KILL", str(most), tcpdump, "-i", "any", "-nn", "-tt", "-x", "-l",
                 "--immediate-mode", "-s", str(_SNAP), "-c", str(MOST_PACKETS),
                 pcap_filter(probes)],
            )  # fmt: skip
            self._await(before)
        except KvmdiagError as error:
            raise NotReadableError(f"tcpdump does not run inside {stack.name}: {error}") from None

    def _sockets(self) -> int:
        """How many packet sockets are open there."""
        return self._inside.programs.read(_SOCKETS).count("\n")

    def _await(self, before: int) -> None:
        """Until it listens, or it is time to go on without knowing."""
        end = time.monotonic() + _READY
        while self._sockets() <= before:
            if time.monotonic() > end:
                self.trouble = "tcpdump inside may have begun too late"
                return
            time.sleep(_PAUSE)

    def finish(self) -> None:
        """End it, and take in what it printed; once."""
        if self._ended:
            return
        self._ended = True
        try:
            kill = self._inside.program("kill", "-l")
            self._inside.run(kill, "-INT", str(self._pid))
            ended = self._inside.programs.result(self._pid)
        except KvmdiagError as error:
            self.trouble = f"what tcpdump saw inside cannot be had: {error}"
            return
        printed = ended.out[:_LONGEST]
        self._packets = tuple(packets(printed))
        full = len(self._packets) >= MOST_PACKETS or len(ended.out) > _LONGEST
        if ended.code != 0:
            self.trouble = f"tcpdump inside ended with code {ended.code}"
        elif full:
            self.trouble = "tcpdump inside saw more than is taken in"

    def sightings(
        self, probe: Probe, taps: dict[tuple[str, str], str], outside: Sequence[Sighting]
    ) -> list[Sighting]:
        """What it printed of one probe, by our clock.

        ``taps`` has for each place of a tap the guest's NIC behind it; ``outside`` is what was
        seen of this probe elsewhere.
        """
        found = list(self._of(probe))
        move = _difference(found, taps, outside)
        if move is None:
            return []
        return [_moved(sighting, move) for sighting in found]

    def _of(self, probe: Probe) -> Iterator[Sighting]:
        for packet in self._packets:
            known = dissect(packet.data, probe) if packet.link in self._links else None
            if known is None:
                continue
            passing: Passing = "out" if packet.way == "Out" else "in"
            frame = CapturedFrame(
                hardware=_NO_LINK_LAYER,
                data=packet.data,
                length=known.packet.length or len(packet.data),
            )
            yield Sighting(
                stack=self.stack,
                link=packet.link,
                direction_on_link=passing if packet.way != "P" else "otherhost",
                direction=known.direction,
                packet=known.packet,
                time_ns=packet.time_ns,
                quoted=known.quoted,
                frame=frame,
            )


def pcap_filter(probes: Sequence[Probe]) -> str:
    """The probes and their replies, in the language of tcpdump; made of numbers only."""
    return " or ".join(
        f"({_conjunction(probe, parts.bytes)})" for probe in probes for parts in signatures(probe)
    )


def _conjunction(probe: Probe, parts: Sequence[tuple[int, bytes]]) -> str:
    if probe.version == 4:
        what, base, tests = _NAMES[probe.proto], 0, []
    else:  # tcpdump has no word for fields of what is in IPv6
        what, base = "ip6", IP_HEADERS[6]
        tests = [f"ip6[{_PROTOCOL_AT}] = {protocol(probe)}"]
    for start, wanted in parts:
        size = min(len(wanted), 4)
        for at in range(0, len(wanted), size):
            value = int.from_bytes(wanted[at : at + size], "big")
            tests.append(f"{what}[{base + start + at}:{size}] = {value:#x}")
    return " and ".join(tests)


def packets(printed: str) -> Iterator[Packet]:
    """What ``tcpdump -i any -tt -x`` printed; whatever else stands there is passed over."""
    head: re.Match[str] | None = None
    data = b""
    count = 0
    for line in [*printed.splitlines(), ""]:
        dump = _BYTES.match(line) if head is not None else None
        if dump is not None:
            data += bytes.fromhex(dump[1].replace(" ", ""))[: max(0, _SNAP - len(data))]
            continue
        if head is not None and data and count < MOST_PACKETS:
            count += 1
            moment = int(head[1]) * 1_000_000_000 + int(head[2]) * 1000
            yield Packet(moment, head[3], head[4], data)
        head, data = _HEAD.match(line), b""


def _difference(
    inside: Sequence[Sighting], taps: dict[tuple[str, str], str], outside: Sequence[Sighting]
) -> int | None:
    """How much our clock is ahead, by the packets that were seen on both sides of a tap.

    What leaves the guest does so before it is seen at the tap, what gets in, after: each
    crossing bounds the difference from one side.
    """
    least: list[int] = []
    most: list[int] = []
    for one in inside:
        leaves = one.direction_on_link == "out"
        for other in outside:
            if taps.get((other.stack, other.link)) != one.link or other.direction != one.direction:
                continue
            if (other.direction_on_link != "out") == leaves and _alike(one, other):
                (most if leaves else least).append(other.time_ns - one.time_ns)
                break
    if least and most:
        return (max(least) + min(most)) // 2
    if least:
        return max(least) + 1
    return min(most) - 1 if most else None


def _alike(one: Sighting, other: Sighting) -> bool:
    ends = (one.packet.src, one.packet.dst, one.quoted)
    return ends == (other.packet.src, other.packet.dst, other.quoted)


def _moved(sighting: Sighting, move: int) -> Sighting:
    return msgspec.structs.replace(sighting, time_ns=sighting.time_ns + move)
