"""What a survey gets: the whole snapshot, and how the paths that matter fare in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from kvmdiag.diagnose.case import Case
from kvmdiag.diagnose.state import State
from kvmdiag.model.question import Question
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Walk


class Survey:
    """A snapshot with the walks of all paths that are judged.

    ``question`` is the path that was asked about, ``None`` when all are. ``hidden`` names
    stacks of which the check that asks lacks facts; they are not among :attr:`stacks`.
    """

    def __init__(
        self,
        state: State,
        paths: Sequence[Question],
        question: Question | None = None,
        hidden: frozenset[str] = frozenset(),
    ) -> None:
        self._state = state
        self.paths = tuple(paths)
        self.question = question
        self.hidden = hidden

    @property
    def snapshot(self) -> Snapshot:
        """All facts."""
        return self._state.snapshot

    @cached_property
    def stacks(self) -> tuple[Stack, ...]:
        """The stacks that have all the facts the check needs."""
        return tuple(stack for stack in self.snapshot.stacks if stack.name not in self.hidden)

    @property
    def host(self) -> Stack | None:
        """The stack that kvmdiag ran in, when it can be seen."""
        return next((s for s in self.stacks if s.name == self.snapshot.host), None)

    def walks(self) -> Iterator[Walk]:
        """The walks of the judged paths, as things stand."""
        for path in self.paths:
            yield self._state.walk(path)

    def cases(self) -> Iterator[Case]:
        """Each judged path as a case, whether it works or not."""
        for walk in self.walks():
            yield Case(self.snapshot, walk, self.hidden)
