"""What repeated or several probes found: the path's MTU, loss and latency, an exchange's legs."""

from __future__ import annotations

from typing import Literal

import msgspec

from kvmdiag.model.link import LinkRef
from kvmdiag.model.packet import Direction
from kvmdiag.model.question import Question


class PathMtu(msgspec.Struct, frozen=True, kw_only=True):
    """The largest IP packet (bytes) that gets there and back whole.

    ``largest`` is ``None`` when not even the smallest does. ``lost`` is the smallest size that
    does not, ``None`` when all that the source's own link takes got through. ``limit`` is the
    hop that ``lost`` does not pass, ``travel`` in which direction, ``told`` what the sender was
    told of it; ``None`` when it vanished silently. ``expected`` and ``expected_limit`` are what
    the walk predicts. ``sent`` is how many probes it took.
    """

    question: Question
    ceiling: int
    largest: int | None
    lost: int | None
    limit: LinkRef | None
    travel: Direction
    told: str | None
    expected: int | None
    expected_limit: LinkRef | None
    sent: int
    remarks: tuple[str, ...] = ()


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """The way from one hop to the next over several probes; times in microseconds.

    ``came`` probes were seen at ``start``, ``lost`` of them not at ``end``.
    """

    travel: Direction
    start: LinkRef
    end: LinkRef
    came: int
    lost: int
    best: float | None
    mean: float | None
    worst: float | None


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """Several probes one after the other; times there and back in microseconds."""

    question: Question
    sent: int
    answered: int
    best: float | None
    mean: float | None
    worst: float | None
    segments: tuple[Segment, ...]
    remarks: tuple[str, ...] = ()


class Leg(msgspec.Struct, frozen=True, kw_only=True):
    """One message of an exchange; ``arrived`` is ``None`` when that cannot be told.

    ``places`` are where it was seen, with the microseconds since the first message was sent.
    """

    name: str
    arrived: bool | None
    text: str
    places: tuple[tuple[LinkRef, float], ...] = ()


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """Messages that belong together, in their order; ``works`` when all that count arrived."""

    kind: Literal["arp", "dhcp", "dns"]
    subject: str
    works: bool | None
    verdict: str
    legs: tuple[Leg, ...]
    remarks: tuple[str, ...] = ()
