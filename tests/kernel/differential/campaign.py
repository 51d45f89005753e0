"""Many cases in a row, with a count at the end."""

from __future__ import annotations

import contextlib
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context

from hypothesis import HealthCheck, Phase, given, seed, settings

from differential.build import BuildError
from differential.generate import cases
from differential.judge import PATIENT, Verdict, judge
from differential.plan import Case
from differential.shrink import shrunk

_BATCH = 10


@dataclass
class Tally:
    """What has come out so far."""

    cases: int = 0
    agreed: int = 0
    unknown: int = 0
    disagreements: list[tuple[Case, tuple[str, ...]]] = field(default_factory=list)
    unbuilt: list[str] = field(default_factory=list)
    fleeting: tuple[str, ...] = ()
    """Disagreements that were gone when the question was asked a third time: a late machine."""
    doubts: Counter[str] = field(default_factory=Counter)
    fates: Counter[str] = field(default_factory=Counter)

    @property
    def questions(self) -> int:
        """How many were asked in all cases."""
        return self.agreed + self.unknown + len(self.disagreements)

    def __str__(self) -> str:
        return (
            f"{self.cases} cases, {self.questions} questions: {self.agreed} agreements,"
            f" {self.unknown} unknown, {len(self.disagreements)} disagreements"
        )

    def add(self, other: Tally) -> None:
        """Count another's cases in."""
        self.cases += other.cases
        self.agreed += other.agreed
        self.unknown += other.unknown
        known = [case for case, _ in self.disagreements]
        self.disagreements += [found for found in other.disagreements if found[0] not in known]
        self.unbuilt += other.unbuilt
        self.fleeting += other.fleeting
        self.doubts.update(other.doubts)
        self.fates.update(other.fates)


def campaign(
    number: int,
    start: int,
    *,
    shrink: int = 0,
    most: int = 5,
    jobs: int = 1,
    tell: Callable[[Tally], object] = lambda _tally: None,
    tally: Tally | None = None,
) -> Tally:
    """Judge ``number`` cases drawn from seed ``start``; stop after ``most`` wrong ones.

    ``jobs`` processes share the work. The seed alone decides which cases are drawn and in which
    order they are reported. ``tell`` is shown how things stand from time to time,
    which is also in ``tally`` should this be interrupted.
    """
    # Hypothesis varies what it has drawn before; new seeds keep the cases from being alike.
    parts = [
        (min(_BATCH, number - batch), start * 1_000_000 + batch)
        for batch in range(0, number, _BATCH)
    ]
    tally = Tally() if tally is None else tally
    with contextlib.closing(_judged_parts(parts, partial(_part, shrink, most), jobs)) as found:
        for part in found:
            tally.add(part)
            tell(tally)
            if len(tally.disagreements) >= most:
                break
    return tally


_Part = tuple[int, int]


def _judged_parts(
    parts: list[_Part], judged: Callable[[_Part], Tally], jobs: int
) -> Iterator[Tally]:
    if jobs == 1:
        yield from map(judged, parts)
        return
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))
    try:
        yield from pool.map(judged, parts)
    finally:
        pool.shutdown(cancel_futures=True)


def _part(shrink: int, most: int, part: _Part) -> Tally:
    """One batch of cases."""
    tally = Tally()

    def run(case: Case) -> None:
        if len(tally.disagreements) < most:
            _one(tally, case, shrink)

    drawn(*part, run)
    return tally


def drawn(number: int, start: int, run: Callable[[Case], None]) -> None:
    """Draw so many cases from a seed, and do something with each."""
    settled = settings(
        max_examples=number,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    seed(start)(settled(given(cases())(run)))()


def _one(tally: Tally, case: Case, shrink: int) -> None:
    tally.cases += 1
    try:
        verdict = judge(case)
    except BuildError as error:
        tally.unbuilt.append(str(error))
        return
    except Exception:  # noqa: BLE001  what the walk raises is wrong, and the case is wanted
        tally.disagreements.append((case, (traceback.format_exc(),)))
        return
    tally.agreed += verdict.agreed
    tally.unknown += verdict.unknown
    tally.doubts.update(verdict.doubts)
    tally.fates.update(verdict.fates)
    for ask in verdict.suspects:
        # Asked alone: other questions may have taught neighbours or bridges something, and a
        # machine under load may have been late.
        alone = replace(case, asks=(ask,))
        second = judge(alone, PATIENT)
        tally.agreed += second.agreed
        if second.complaints:
            _disagreed(tally, alone, second, shrink)


def _disagreed(tally: Tally, case: Case, verdict: Verdict, shrink: int) -> None:
    if shrink:
        case = shrunk(case, is_wrong, shrink)
    again = judge(case, PATIENT)
    if not again.complaints:
        tally.agreed += 1
        tally.fleeting += verdict.complaints
        return
    if case not in (known for known, _ in tally.disagreements):
        tally.disagreements.append((case, again.complaints))


def is_wrong(case: Case) -> bool:
    """Whether walk and kernel disagree on a case that can be built."""
    verdict = _judged(case)
    return verdict is not None and bool(verdict.complaints)


def _judged(case: Case) -> Verdict | None:
    try:
        return judge(case)
    except BuildError:
        return None
