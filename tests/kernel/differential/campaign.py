"""Many cases in a row, with a count at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

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
    doubts: Counter[str] = field(default_factory=Counter)
    fates: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        asked = self.agreed + self.unknown + len(self.disagreements)
        return (
            f"{self.cases} cases, {asked} questions: {self.agreed} agreements,"
            f" {self.unknown} unknown, {len(self.disagreements)} disagreements"
        )


def campaign(number: int, start: int, *, shrink: int = 0, most: int = 5) -> Tally:
    """Judge ``number`` cases drawn from seed ``start``; stop after ``most`` wrong ones."""
    tally = Tally()

    def run(case: Case) -> None:
        if len(tally.disagreements) < most:
            _one(tally, case, shrink)

    # Hypothesis varies what it has drawn before; new seeds keep the cases from being alike.
    for batch in range(0, number, _BATCH):
        _drawn(min(_BATCH, number - batch), start * 1_000_000 + batch, run)
    return tally


def _drawn(number: int, start: int, run: Callable[[Case], None]) -> None:
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
        verdict = _judged(case) or verdict
    if case not in (known for known, _ in tally.disagreements):
        tally.disagreements.append((case, verdict.complaints))


def is_wrong(case: Case) -> bool:
    """Whether walk and kernel disagree on a case that can be built."""
    verdict = _judged(case)
    return verdict is not None and bool(verdict.complaints)


def _judged(case: Case) -> Verdict | None:
    try:
        return judge(case)
    except BuildError:
        return None
