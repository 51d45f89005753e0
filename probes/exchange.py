"""Following messages that belong together, wherever they pass."""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

import msgspec

from kvmdiag.model.link import LinkRef
from kvmdiag.model.packet import IPAddress
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.probes.capture import Capture, without_link_layer
from kvmdiag.probes.datagram import datagram

_M = TypeVar("_M", bound="Passing")
_ASK_EVERY = 0.1


class Passing(Protocol):
    """A message that was seen passing a link; ``outgoing`` as seen from its stack."""

    @property
    def place(self) -> LinkRef:
        """Stack and link."""

    @property
    def outgoing(self) -> bool:
        """Whether it left by the link."""

    @property
    def time_ns(self) -> int:
        """CLOCK_REALTIME."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A UDP datagram that was seen passing a link; ``outgoing`` as seen from its stack."""

    place: LinkRef
    outgoing: bool
    time_ns: int
    source: IPAddress
    destination: IPAddress
    payload: bytes


def wait_for(
    captures: Sequence[Capture],
    seconds: float,
    done: Callable[[list[_M]], bool],
    read: Callable[[Iterable[Capture]], list[_M]],
) -> list[_M]:
    """All messages that pass within so many seconds, in the order of time, as ``read`` tells.

    Ends when ``done`` with what has come so far: it is asked again and again.
    """
    end = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for capture in captures:
            selector.register(capture, selectors.EVENT_READ, capture)
        while (left := end - time.monotonic()) > 0:
            for key, _ in selector.select(min(left, _ASK_EVERY)):
                key.data.drain()
            if done(read(captures)):
                break
    for capture in captures:  # a link shows it before the socket behind it gets it
        capture.drain()
    return read(captures)


def messages(captures: Iterable[Capture]) -> list[Message]:
    """What was captured so far; what is no datagram at all is left out."""
    found = []
    for capture in captures:
        for frame in capture.frames():
            known = datagram(without_link_layer(frame))
            if known is None:
                continue
            found.append(
                Message(
                    place=LinkRef(capture.stack, frame.link),
                    outgoing=frame.outgoing,
                    time_ns=frame.time_ns,
                    source=known.source,
                    destination=known.destination,
                    payload=known.payload,
                )
            )
    return sorted(found, key=lambda message: message.time_ns)


def places(
    found: Iterable[Passing], start_ns: int, most: int = 40
) -> tuple[tuple[LinkRef, float], ...]:
    """Where the messages were seen first, with the microseconds since the start."""
    first: dict[LinkRef, float] = {}
    for message in found:
        if len(first) < most:
            first.setdefault(message.place, (message.time_ns - start_ns) / 1000)
    return tuple(first.items())


def ends(snapshot: Snapshot, found: Iterable[Passing], start: LinkRef) -> tuple[LinkRef, ...]:
    """Where a broadcast ended: links it came in by that are no port of a bridge, nor ``start``."""
    ports = {
        LinkRef(stack.name, link.name)
        for stack in snapshot.stacks
        for link in stack.links or ()
        if link.master is not None
    }
    return tuple(
        dict.fromkeys(
            one.place for one in found if not one.outgoing and one.place not in {*ports, start}
        )
    )
