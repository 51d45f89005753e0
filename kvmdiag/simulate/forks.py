"""What cannot be told of a packet's way, and which answer is supposed in one attempt to walk it.

A walk is attempted once for each combination of answers: every attempt follows a script, and
where the script ends the first answer is taken. What was asked is noted, so that the next
attempt can answer otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from kvmdiag.model.trace import Decider, Hop


class Doubt(NamedTuple):
    """Something that cannot be told, of a rule or a route, and what is supposed (``matches``)."""

    rule: Decider | None
    expression: str
    answer: str


class Fork(msgspec.Struct, frozen=True):
    """A place where a packet may go several ways.

    ``hop`` is the hop to record if none of them is taken, ``position`` the number of hops
    before it. Each way is told by what it supposes.
    """

    hop: Hop
    position: int
    ways: tuple[tuple[Doubt, ...], ...]


class Choices:
    """The answers of one attempt; ``forks`` are the places where one was needed."""

    def __init__(self, script: Sequence[int] = ()) -> None:
        self._script = script
        self.forks: list[Fork] = []

    def take(self, fork: Fork) -> int:
        """The number of the way to go."""
        asked = len(self.forks)
        self.forks.append(fork)
        return self._script[asked] if asked < len(self._script) else 0

    @property
    def taken(self) -> tuple[int, ...]:
        """The answers to all forks."""
        rest = len(self.forks) - len(self._script)
        return (*self._script[: len(self.forks)], *(0 for _ in range(rest)))


def parting(one: Sequence[Doubt], other: Sequence[Doubt]) -> tuple[Doubt, Doubt]:
    """Where two ways through the same rules first suppose something different."""
    return next(
        ((mine, its) for mine, its in zip(one, other, strict=False) if mine.answer != its.answer),
        (one[-1], other[-1]),
    )
