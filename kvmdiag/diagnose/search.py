"""Searches for the changes that make a path work, by trying them on copies of the snapshot.

Each step asks the checks what could be the matter with the walk as it stands, tries their
remedies in path order and from the least harmful on, and goes on from each that makes the
packet fare better. The first set that makes request and reply arrive and breaks no other
path is taken; then whatever it does not need is dropped from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from kvmdiag.diagnose.case import Case
from kvmdiag.diagnose.check import SNAPSHOT_FACTS, Check, Remedy, Suspicion, Turn
from kvmdiag.diagnose.state import State, cannot_tell, is_better, progress
from kvmdiag.model.action import Action
from kvmdiag.model.question import Question
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.trace import Hop, Walk

# So many walks are tried for one path at most; far more than any set of real faults needs.
_BUDGET = 400

# A fault can hide another that comes earlier on the way: a tap that is plugged into no bridge
# hides that the bridge's packets are not forwarded, and curing it alone makes the packet end
# sooner. So many changes that are no progress in themselves may be part of the way.
_DETOURS = 2


@dataclass(frozen=True)
class Cure:
    """A suspicion, the remedy of it that was chosen, and the hop where the fault showed."""

    check: Check
    suspicion: Suspicion
    actions: Remedy
    at: Hop

    @property
    def key(self) -> tuple[str, str]:
        """What makes two cures the same finding: check and subject."""
        return self.check.id, self.suspicion.subject


Cures = tuple[Cure, ...]


def search(
    state: State,
    checks: Sequence[Check],
    question: Question,
    harm: Callable[[State], int],
) -> Cures:
    """What makes a path work, in path order; or what gets it furthest, when nothing does.

    ``harm`` counts the paths that a state breaks.
    """
    found = _Search(state, checks, question, harm)
    for detours in range(_DETOURS + 1):
        if found.descend(state, (), detours):
            break
    return _in_path_order(found.best, state, question)


def lacking(snapshot: Snapshot, check: Check) -> dict[str, list[str]]:
    """The stacks that lack facts that a check needs, with the facts."""
    needed = sorted(check.needs - SNAPSHOT_FACTS)
    missing = {
        stack.name: [fact.value for fact in needed if getattr(stack, fact.value) is None]
        for stack in snapshot.stacks
    }
    return {name: facts for name, facts in missing.items() if facts}


def suspicions(state: State, checks: Sequence[Check], walk: Walk) -> list[tuple[Check, Suspicion]]:
    """What the checks say of a walk that does not get through, in path order and by turn."""
    found: list[tuple[Check, Suspicion]] = []
    for check in sorted(checks, key=lambda check: check.turn):
        if check.run is None:
            continue
        if check.turn is Turn.LAST and any(said.by_design for _, said in found):
            continue
        hidden = frozenset(lacking(state.snapshot, check))
        case = Case(state.snapshot, walk, hidden, state.view)
        found += [(check, said) for said in check.run(case)]
    places = {id(hop): number for number, hop in enumerate(walk.hops)}
    last = len(places)
    return sorted(found, key=lambda pair: (places.get(id(pair[1].at), last), pair[0].turn))


class _Search:
    def __init__(
        self,
        state: State,
        checks: Sequence[Check],
        question: Question,
        harm: Callable[[State], int],
    ) -> None:
        self._start = state
        self._checks = checks
        self._question = question
        self._harm = harm
        self._walks_left = _BUDGET
        self._reached = progress(state.walk(question))
        self._least_harm: int | None = None
        self.best: Cures = ()

    def descend(self, state: State, cures: Cures, detours: int) -> bool:
        """Go on from a state; true when a harmless way to make the path work was found."""
        walk = state.walk(self._question)
        if walk.works:
            return self._arrived(cures)
        if self._least_harm is None and progress(walk) > self._reached:
            self._reached = progress(walk)
            self.best = self._needed(cures)
        if cannot_tell(walk):
            return False
        # What has no remedy, and what is meant to be so, is for the report alone.
        found = [
            (check, said)
            for check, said in suspicions(state, self._checks, walk)
            if said.remedies and not said.by_design
        ]
        aside: list[tuple[State, Cure]] = []
        moved = False
        for check, said, remedy in _gentle_first(found):
            cure = Cure(check, said, remedy, said.at or walk.decisive.end)
            after = self._tried(state, (cure,))
            if after is None:
                return False
            if is_better(after.walk(self._question), walk):
                moved = True
                if self.descend(after, (*cures, cure), detours):
                    return True
            else:
                aside.append((after, cure))
        if not moved and len(found) > 1 and self._together(state, walk, cures, found, detours):
            return True
        return detours > 0 and any(
            self.descend(after, (*cures, cure), detours - 1) for after, cure in aside
        )

    def _together(
        self,
        state: State,
        walk: Walk,
        cures: Cures,
        found: list[tuple[Check, Suspicion]],
        detours: int,
    ) -> bool:
        """Two faults can hide each other so that no single remedy shows an effect."""
        joint = tuple(
            Cure(check, said, said.remedies[0], said.at or walk.decisive.end)
            for check, said in found
        )
        after = self._tried(state, joint)
        if after is None or not is_better(after.walk(self._question), walk):
            return False
        return self.descend(after, (*cures, *joint), detours)

    def _tried(self, state: State, cures: Cures) -> State | None:
        """The state after these cures; ``None`` when enough has been tried."""
        if self._walks_left <= 0:
            return None
        self._walks_left -= 1
        return state.after(action for cure in cures for action in cure.actions)

    def _arrived(self, cures: Cures) -> bool:
        """Note a set of cures that makes the path work; true when nothing better can come."""
        needed = self._needed(cures)
        harm = self._harm(self._start.after(a for cure in needed for a in cure.actions))
        if self._least_harm is None or harm < self._least_harm:
            self._least_harm = harm
            self.best = needed
        return harm == 0

    def _needed(self, cures: Cures) -> Cures:
        """The cures without every action that makes no difference to how far the packet gets."""
        every = [(cure, action) for cure in cures for action in cure.actions]
        goal = progress(self._walk_after(every))
        for part in reversed(tuple(every)):
            without = [other for other in every if other is not part]
            if progress(self._walk_after(without)) >= goal:
                every = without
        kept = []
        for cure in cures:
            actions = tuple(action for owner, action in every if owner is cure)
            if actions:
                kept.append(replace(cure, actions=actions))
        return tuple(kept)

    def _walk_after(self, parts: Sequence[tuple[Cure, Action]]) -> Walk:
        return self._start.after(action for _, action in parts).walk(self._question)


def _gentle_first(
    found: Sequence[tuple[Check, Suspicion]],
) -> list[tuple[Check, Suspicion, Remedy]]:
    """Every remedy of every suspicion; those that take something from others come last.

    Else a path could be led around its faults by deleting a route that is in order.
    """
    every = [(check, said, remedy) for check, said in found for remedy in said.remedies]
    return sorted(every, key=lambda one: any(action.disruptive for action in one[2]))


def _in_path_order(cures: Cures, state: State, question: Question) -> Cures:
    """Cures by the place of their fault on the way that the packet takes in the end.

    A fault at a place that the cured way does not show stays behind the one found before it.
    """
    final = state.after(action for cure in cures for action in cure.actions)
    places: dict[tuple[object, ...], int] = {}
    for number, hop in enumerate(final.walk(question).hops):
        places.setdefault(_place(hop), number)
    keys = []
    before = 0
    for cure in cures:
        before = places.get(_place(cure.at), before)
        keys.append(before)
    order = sorted(range(len(cures)), key=lambda number: keys[number])
    return tuple(cures[number] for number in order)


def _place(hop: Hop) -> tuple[object, ...]:
    return hop.direction, hop.stack, hop.link, hop.stage
