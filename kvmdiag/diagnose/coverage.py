"""How far the checks could be asked: which had their facts, and which were left out for want of.

A check that lacks its facts is never taken to have passed. What has no part in a host, such as
libvirt where it does not run, is not missing: a check of it neither passes nor is left out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from kvmdiag.diagnose.check import SNAPSHOT_FACTS, Check
from kvmdiag.diagnose.search import lacking
from kvmdiag.model.report import Skipped
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.trace import Walk


def skipped(
    snapshot: Snapshot, checks: Sequence[Check], failing: Iterable[Walk], spoke: Collection[str]
) -> tuple[Skipped, ...]:
    """The checks that could not be asked about a path that is not known to work, or at all.

    ``failing`` are those paths; ``spoke`` are the ids of checks that found something.
    """
    concerned: dict[str, None] = {}
    for walk in failing:
        concerned |= dict.fromkeys(_stacks_of(walk))
    found = []
    for check in checks:
        if check.id in spoke:
            continue
        missing = lacking(snapshot, check)
        asked = concerned if check.survey is None else {**concerned, snapshot.host: None}
        blind = [name for name in asked if name in missing]
        needs = [f"{', '.join(missing[name])} of {name}" for name in blind]
        why = [_why(snapshot, name, missing[name]) for name in blind]
        for fact in _absent(snapshot, check):
            if check.survey is not None and not _has_no_part(snapshot, fact):
                needs.append(fact)
                why.append(_why(snapshot, None, [fact]))
        if needs:
            left_out = Skipped(
                check=check.id, needs="; ".join(needs), why="; ".join(dict.fromkeys(why))
            )
            found.append(left_out)
    return tuple(found)


def passed(snapshot: Snapshot, checks: Sequence[Check], others: Collection[str]) -> tuple[str, ...]:
    """The checks that had all their facts of every stack and found nothing.

    ``others`` are the ids of those that found something or were left out.
    """
    return tuple(
        check.id
        for check in checks
        if check.id not in others and not lacking(snapshot, check) and not _absent(snapshot, check)
    )


def _absent(snapshot: Snapshot, check: Check) -> list[str]:
    """The facts of the snapshot as a whole that a check needs and that were not read."""
    needed = sorted(check.needs & SNAPSHOT_FACTS)
    return [fact.value for fact in needed if getattr(snapshot, fact.value) is None]


def _has_no_part(snapshot: Snapshot, fact: str) -> bool:
    """Whether what a fact is about does not exist here, as far as was noted."""
    gaps = [gap for gap in snapshot.gaps if gap.stack is None and gap.fact == fact]
    return not gaps or all(gap.expected for gap in gaps)


def _stacks_of(walk: Walk) -> Iterable[str]:
    """The stacks that a path is known to concern."""
    path = walk.question
    ends = (path.source.stack, path.destination.stack)
    return (*(hop.stack for hop in walk.hops), *(name for name in ends if name is not None))


def _why(snapshot: Snapshot, stack: str | None, facts: Sequence[str]) -> str:
    """What the snapshot says of unread facts of a stack, or of the whole."""
    said = [
        f"{gap.why} ({gap.help})" if gap.help else gap.why
        for gap in snapshot.gaps
        if gap.stack == stack and gap.fact in facts
    ]
    where = "" if stack is None else f" of {stack}"
    return "; ".join(dict.fromkeys(said)) or f"the snapshot does not have it{where}"
