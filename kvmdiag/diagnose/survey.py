"""What a survey gets: the whole snapshot, and how the paths that matter fare in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from kvmdiag.diagnose.case import Case
from kvmdiag.diagnose.state import State
from kvmdiag.model.question import Question
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Reason, Walk


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

    def broken_by(
        self, after: Snapshot, also: Sequence[Question] = ()
    ) -> Iterator[tuple[Question, Walk]]:
        """The judged paths, and others, that get there now and may not in another state."""
        if after is self.snapshot:
            return
        state = State(after, self._state)
        for path in (*self.paths, *also):
            if _gets_there(self._state.walk(path)) and not _gets_there(state.walk(path)):
                yield path, state.walk(path)

    def cases(self) -> Iterator[Case]:
        """Each judged path as a case, whether it works or not."""
        for walk in self.walks():
            yield Case(self.snapshot, walk, self.hidden, self._state.view)


def failure(path: Question, walk: Walk) -> str:
    """That a path does not work, or may not, as a clause."""
    port = "" if path.port is None else f" ({path.proto} port {path.port})"
    how = "does not reach" if walk.works is False else "may not reach"
    return f"{path.source.text} {how} {path.destination.text}{port}"


def _gets_there(walk: Walk) -> bool | None:
    """Whether request and reply get through, be somebody there to listen or not."""
    return True if walk.request.reason is Reason.NO_LISTENER else walk.works
