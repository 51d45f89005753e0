"""Compares two snapshots: what changed, and which paths that breaks or cures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count

from kvmdiag.diagnose.check import Check
from kvmdiag.diagnose.difference import changes
from kvmdiag.diagnose.engine import diagnose
from kvmdiag.diagnose.intent import intended_paths
from kvmdiag.diagnose.state import State
from kvmdiag.errors import UsageError
from kvmdiag.model.comparison import Comparison, Effect, PathChange, PathFate
from kvmdiag.model.question import Question
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.simulate.endpoints import resolve

_EXPLAINABLE: tuple[Effect, ...] = ("broken", "unclear")

# A path that fails is explained by trying cures, which takes a while; a few say enough.
_EXPLAINED = 20


def compare(before: Snapshot, after: Snapshot, checks: Sequence[Check] = ()) -> Comparison:
    """What is different in ``after``; ``checks`` explain the paths that fail there now.

    Judged are the paths that are meant to work in either snapshot, when the machine they start
    from is in both; a guest that was stopped is a change, not a broken path.
    """
    old, new = State(before), State(after)
    both = {s.name for s in before.stacks} & {s.name for s in after.stacks}
    explained = count()
    paths = []
    for question in _questions(before, after):
        ends = {question.source.stack, question.destination.stack} - {None}
        if not ends <= both:
            continue
        fates = _fate(old, question), _fate(new, question)
        effect = _effect(*fates)
        causes: tuple[str, ...] = ()
        walk = fates[1].walk
        if walk is not None and effect in _EXPLAINABLE and next(explained) < _EXPLAINED:
            causes = _causes(after, walk.question, checks)
            effect = "broken" if causes else effect
        paths.append(
            PathChange(
                question=question, effect=effect, before=fates[0], after=fates[1], causes=causes
            )
        )
    return Comparison(changes=changes(before, after), paths=tuple(paths))


def _questions(before: Snapshot, after: Snapshot) -> Iterable[Question]:
    """The paths that are meant to work, each once.

    One that is meant in ``after`` only counts when its destination had an owner before as well:
    nobody can have lost, or got back, what was not there.
    """
    found = {(q.source.text, q.destination.text): q for q in intended_paths(before)}
    for question in intended_paths(after):
        try:
            earlier = _asked(before, question)
        except UsageError:
            continue
        if earlier.destination.stack == question.destination.stack:
            found.setdefault((question.source.text, question.destination.text), question)
    return found.values()


def _causes(snapshot: Snapshot, question: Question, checks: Sequence[Check]) -> tuple[str, ...]:
    """The checks whose fixes are proved to let the packet through."""
    found = diagnose(snapshot, checks, question).findings
    return tuple(
        dict.fromkeys(f.check for f in found if f.role == "cause" and f.verified is not False)
    )


def _asked(snapshot: Snapshot, question: Question) -> Question:
    """The question that the same words ask in a snapshot."""
    return resolve(
        snapshot,
        question.source.text,
        question.destination.text,
        version=6 if ":" in (question.destination.address or "") else 4,
    )


def _fate(state: State, question: Question) -> PathFate:
    """How the path that is asked for by the same words fares."""
    try:
        asked = _asked(state.snapshot, question)
    except UsageError as error:
        return PathFate(works=False, why=str(error))
    walk = state.walk(asked)
    return PathFate(works=walk.works, walk=walk)


def _effect(before: PathFate, after: PathFate) -> Effect:
    if before.works and after.works is False:
        return "broken"
    if before.works and after.works is None:
        return "unclear"
    if not before.works and after.works:
        return "cured"
    if before.works or _end(before) == _end(after):
        return "unchanged"
    return "otherwise"


def _end(fate: PathFate) -> object:
    """Where and why a way ends, without handles and counters."""
    if fate.walk is None:
        return fate.why
    trace = fate.walk.decisive
    return (trace.direction, trace.outcome, trace.reason, trace.end.stack, trace.end.link)
