"""Why the kernel dropped the probe, by its tracepoints alone: where BPF is not to be had.

They tell a packet's place in memory, not what is in it. That place is the probe's when it came
by a link, or was to leave by it, at the moment at which the captures saw the probe there. So
three tracepoints are read, each filtered in the kernel (by length, by protocol), and a drop
counts when the place in memory was the probe's a moment before. Of a copy, such as a watched
bridge makes, nothing is known: meanwhile no bridge may be promiscuous.
Source: include/trace/events/skb.h, include/trace/events/net.h.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from kvmdiag.model.snapshot import Snapshot
from kvmdiag.probes.evidence import tracefs
from kvmdiag.probes.evidence.bystanders import Bystanders
from kvmdiag.probes.evidence.clocks import realtime_ahead
from kvmdiag.probes.evidence.facts import KernelDrop
from kvmdiag.probes.evidence.perf_call import Record, Tracepoints
from kvmdiag.probes.evidence.symbols import Symbols
from kvmdiag.probes.headers import IP_HEADERS
from kvmdiag.probes.observation import Sighting
from kvmdiag.probes.packet import Probe

MOST_PASSINGS, MOST_DROPS = 4096, 65536
"""Of what is kept; of more the oldest are forgotten."""

_DROP, _IN, _OUT = "skb/kfree_skb", "net/netif_receive_skb", "net/net_dev_queue"
_ETHER_TYPES = {4: 0x0800, 6: 0x86DD}
_LINK_HEADERS = (0, 14, 18)
_SHORT = 128
"""Longer than a SYN and its answer, and than most small datagrams."""

_SAME_MOMENT = 1_000_000
_AT_ONCE = 20_000_000
"""How long after it was seen (nanoseconds) a place in memory may still hold the probe."""

_MOST_AT_ONCE = 100_000


class _Passing(NamedTuple):
    time_ns: int
    place: int
    link: str
    outgoing: bool


class _Drop(NamedTuple):
    time_ns: int
    place: int
    address: int
    reason: int | None


class PerfDropWatch:
    """Like ``DropWatch``; what it finds it knows only by the sightings.

    Raises:
        OSError: the kernel or the rights of the process do not allow it.
        ValueError, KeyError: the tracepoints are not as they are known.

    """

    knows_copies = False

    def __init__(self, snapshot: Snapshot, probes: Sequence[Probe], source: str | None) -> None:
        self._drop, self._in, self._out = tracefs.events(_DROP, _IN, _OUT)
        self._bystanders = Bystanders(snapshot, source)
        self._links = {
            stack.name: {link.name for link in stack.links or ()} for stack in snapshot.stacks
        }
        self._clock = realtime_ahead()
        self._passings: deque[_Passing] = deque(maxlen=MOST_PASSINGS)
        self._drops: deque[_Drop] = deque(maxlen=MOST_DROPS)
        self._symbols = Symbols()
        lengths = _lengths(probes)
        self._tracepoints = Tracepoints(
            {
                self._in.number: lengths,
                self._out.number: lengths,
                self._drop.number: f"protocol == {_ETHER_TYPES[probes[0].version]}",
            }
        )

    def fileno(self) -> int:
        """Readable when there is much to drain."""
        return self._tracepoints.fileno()

    @property
    def lost(self) -> bool:
        """Whether the kernel had more to tell than could be taken in."""
        return self._tracepoints.lost or len(self._drops) == MOST_DROPS

    def close(self) -> None:
        """Stop watching."""
        self._tracepoints.close()
        self._symbols.close()

    def drain(self) -> frozenset[int]:
        """Take in what has come. Whose it is is found out only with the sightings."""
        for record in islice(self._tracepoints.read(), _MOST_AT_ONCE):
            if record.event == self._drop.number:
                self._drops.append(self._dropped(record))
            else:
                self._passings.append(self._passed(record))
        return frozenset()

    def _dropped(self, record: Record) -> _Drop:
        fields = self._drop.fields
        reason = _number(record, fields["reason"]) if "reason" in fields else None
        return _Drop(
            record.time_ns + self._clock,
            _number(record, fields["skbaddr"]),
            _number(record, fields["location"]),
            reason,
        )

    def _passed(self, record: Record) -> _Passing:
        event = self._out if record.event == self._out.number else self._in
        at = _number(record, event.fields["name"]) & 0xFFFF  # __data_loc: length and offset
        name = record.data[at:].split(b"\0")[0].decode(errors="replace")
        place = _number(record, event.fields["skbaddr"])
        return _Passing(record.time_ns + self._clock, place, name, event is self._out)

    def drops(self, number: int, sightings: Sequence[Sighting]) -> tuple[KernelDrop, ...]:
        """Those of the probe that was seen like that, in the order of time."""
        del number
        self._symbols.needed()
        found = [
            (drop, sighting, link)
            for drop, sighting, link in self._matched(sightings)
            if self._bystanders.is_loss(
                sighting.stack,
                link,
                self._reason(drop.reason),
                reply=sighting.direction == "reply",
            )
        ]
        symbols = self._symbols.names({drop.address for drop, _, _ in found})
        return tuple(
            KernelDrop(
                direction=sighting.direction,
                stack=sighting.stack,
                link=link,
                reason=self._reason(drop.reason),
                symbol=symbols[drop.address],
                time_ns=drop.time_ns,
            )
            for drop, sighting, link in found
        )

    def _matched(self, sightings: Sequence[Sighting]) -> Iterator[tuple[_Drop, Sighting, str]]:
        """Drops of what a sighting shows, with the link it was at last."""
        by_link: dict[tuple[str, bool], list[Sighting]] = {}
        for sighting in sightings:
            key = sighting.link, sighting.direction_on_link == "out"
            by_link.setdefault(key, []).append(sighting)
        holds: dict[int, tuple[Sighting, _Passing]] = {}
        events: list[_Passing | _Drop] = [*self._passings, *self._drops]
        for event in sorted(events, key=lambda one: one.time_ns):
            held = holds.get(event.place)
            if held is not None and event.time_ns - held[1].time_ns > _AT_ONCE:
                del holds[event.place]
                held = None
            if isinstance(event, _Drop):
                if held is not None:
                    del holds[event.place]
                    yield event, held[0], held[1].link
                continue
            shown = _nearest(by_link.get((event.link, event.outgoing), ()), event)
            if shown is not None:
                holds[event.place] = shown, event
            elif held is not None and event.link in self._links.get(held[0].stack, ()):
                holds[event.place] = held[0], event  # on its way out, where it was not seen yet
            else:
                holds.pop(event.place, None)

    def _reason(self, number: int | None) -> str | None:
        if number is None:
            return None
        return self._drop.names.get(number, f"reason {number:#x}")


def _nearest(sightings: Sequence[Sighting], event: _Passing) -> Sighting | None:
    near = [one for one in sightings if abs(one.time_ns - event.time_ns) < _SAME_MOMENT]
    return min(near, key=lambda one: abs(one.time_ns - event.time_ns), default=None)


def _lengths(probes: Sequence[Probe]) -> str:
    """The kernel's filter: what may be a probe or its answer, with or without a link header.

    How long a SYN gets and what answers it, or a datagram, is not known beforehand.
    """
    sizes = {len(probe.data) + IP_HEADERS[probe.version] + 8 for probe in probes}
    parts = [f"len == {size + more}" for size in sorted(sizes) for more in _LINK_HEADERS]
    if probes[0].proto in ("tcp", "udp"):
        parts.append(f"len <= {_SHORT}")
    return " || ".join(parts)


def _number(record: Record, field: tuple[int, int]) -> int:
    at, size = field
    return int.from_bytes(record.data[at : at + size], sys.byteorder)
