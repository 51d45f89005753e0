"""A snapshot with what has been simulated on it."""

from __future__ import annotations

from collections.abc import Iterable

from kvmdiag.model.action import Action
from kvmdiag.model.question import Question
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.trace import Decider, Reason, RuleRef, Walk
from kvmdiag.simulate.facts.view import View
from kvmdiag.simulate.walk import walk

# So many states are remembered: those that are asked for again are asked for soon.
_REMEMBERED = 32


class State:
    """One snapshot, indexed once, and the walks made in it so far.

    ``base`` is the state that it was made from, by ``done``.
    """

    def __init__(
        self, snapshot: Snapshot, base: State | None = None, done: tuple[Action, ...] = ()
    ) -> None:
        self.snapshot = snapshot
        self.view: View = View(snapshot, None if base is None else base.view)
        self._walks: dict[Question, Walk] = {}
        self._done = done
        self._made: dict[tuple[Action, ...], State] = {} if base is None else base._made

    def after(self, actions: Iterable[Action]) -> State:
        """The state in which these actions have been carried out, in this order.

        However it was come by, it is the same one with the same walks.
        """
        added = tuple(actions)
        if not added:
            return self
        done = (*self._done, *added)
        known = self._made.get(done)
        if known is None:
            snapshot = self.snapshot
            for action in added:
                snapshot = action.apply(snapshot)
            if len(self._made) >= _REMEMBERED:
                del self._made[next(iter(self._made))]
            known = self._made[done] = State(snapshot, self, done)
        return known

    def walk(self, question: Question) -> Walk:
        """The walk of a question; made once."""
        known = self._walks.get(question)
        if known is None:
            known = self._walks[question] = walk(self.snapshot, question, view=self.view)
        return known

    def works(self, question: Question) -> bool | None:
        """Whether request and reply get through."""
        return self.walk(question).works


def progress(walk: Walk) -> tuple[bool, bool, int]:
    """How far a walk gets, to be compared: all the way, to the turn, or so many hops."""
    return (walk.works is True, walk.request.arrived is True, len(walk.decisive.hops))


def is_better(new: Walk, old: Walk) -> bool:
    """Whether a packet fares better: it gets further, or what stopped it no longer does.

    The latter is how one of two obstacles at the same place shows: with the first gone, the
    walk ends there still, and names the second.
    """
    if progress(new) != progress(old):
        return progress(new) > progress(old)
    return not new.works and _stopper(new) != _stopper(old)


def cannot_tell(walk: Walk) -> bool:
    """Whether a walk ends where something was not read or is not understood.

    A change that leads the packet elsewhere proves nothing then: it may have got through there.
    """
    return walk.decisive.reason in (Reason.NOT_READ, Reason.NOT_MODELLED)


def obstacle(walk: Walk) -> tuple[str, Reason, Decider | None]:
    """What stopped a packet, and in which stack."""
    return walk.decisive.end.stack, *_stopper(walk)


def _stopper(walk: Walk) -> tuple[Reason, Decider | None]:
    """What stopped a packet, the same however many rules were put before it."""
    decider = walk.decisive.end.decider
    if isinstance(decider, RuleRef):
        policy = None if decider.index is None else 0
        decider = RuleRef(
            stack=decider.stack,
            family=decider.family,
            backend=decider.backend,
            table=decider.table,
            chain=decider.chain,
            index=policy,
            text=decider.text,
        )
    return walk.decisive.reason, decider
