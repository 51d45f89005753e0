"""Several probes one after the other: what gets lost between which hops, and how long it takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from kvmdiag.model.link import LinkRef
from kvmdiag.model.measure import Segment, Series
from kvmdiag.model.packet import Direction
from kvmdiag.model.question import Question
from kvmdiag.probes.observation import Observation

_Times = dict[LinkRef, float]


def series(question: Question, seen: Sequence[Observation]) -> Series:
    """What the observations have in common.

    The hops are those of the probe that came farthest; between each two neighbours of them a
    probe is lost when it was seen at the first and not at the second, and there was no answer.
    """
    times = [_round_trip(one) for one in seen if one.reached]
    best, mean, worst = _summary(times)
    return Series(
        question=question,
        sent=len(seen),
        answered=len(times),
        best=best,
        mean=mean,
        worst=worst,
        segments=(*_segments("request", seen), *_segments("reply", seen)),
        remarks=tuple(dict.fromkeys(text for one in seen for text in one.remarks)),
    )


def _round_trip(one: Observation) -> float:
    return one.waited * 1e6


def _segments(travel: Direction, seen: Sequence[Observation]) -> Iterator[Segment]:
    ways = [_way(one, travel) for one in seen]
    longest = max(ways, key=len, default={})
    for start, end in pairwise(longest):
        spans, came = [], 0
        for way in ways:
            if start in way:
                came += 1
                if end in way:
                    spans.append(way[end] - way[start])
        best, mean, worst = _summary(spans)
        yield Segment(
            travel=travel,
            start=start,
            end=end,
            came=came,
            lost=came - len(spans),
            best=best,
            mean=mean,
            worst=worst,
        )


def _way(one: Observation, travel: Direction) -> _Times:
    """When it was first seen at each place, in microseconds, in the order of its way."""
    found: _Times = {}
    for sighting in one.travelling(travel):
        found.setdefault(sighting.place, (sighting.time_ns - one.sent_ns) / 1000)
    return found


def _summary(times: Iterable[float]) -> tuple[float | None, float | None, float | None]:
    values = [max(0.0, value) for value in times]
    if not values:
        return None, None, None
    return min(values), sum(values) / len(values), max(values)
