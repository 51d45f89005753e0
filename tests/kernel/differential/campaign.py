"""Many cases in a row, with a count at the end."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from dataclasses import dataclass, field
from pprint import pformat

from hypothesis import HealthCheck, Phase, given, seed, settings

from differential.build import BuildError
from differential.generate import cases
from differential.judge import Verdict, judge
from differential.plan import Case
from differential.shrink import shrunk


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

    @seed(start)
    @settings(
        max_examples=number,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases())
    def run(case: Case) -> None:
        if len(tally.disagreements) < most:
            _one(tally, case, shrink)

    run()
    return tally


def _one(tally: Tally, case: Case, shrink: int) -> None:
    tally.cases += 1
    try:
        verdict = judge(case)
    except BuildError as error:
        tally.unbuilt.append(str(error))
        return
    # A machine under load may be late; what is really wrong is wrong again.
    if verdict.complaints:
        verdict = judge(case)
    tally.agreed += verdict.agreed
    tally.unknown += verdict.unknown
    tally.doubts.update(verdict.doubts)
    tally.fates.update(verdict.fates)
    if verdict.complaints:
        if shrink:
            case = shrunk(case, is_wrong, shrink)
            verdict = _judged(case) or verdict
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


def main() -> int:
    """Parse the arguments, run, print; the exit status."""
    parser = argparse.ArgumentParser(description="Does the walk say what the kernel does?")
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shrink", type=int, default=80, help="experiments spent on each")
    parser.add_argument("--most", type=int, default=5, help="stop after so many disagreements")
    asked = parser.parse_args()
    began = time.monotonic()
    tally = campaign(asked.cases, asked.seed, shrink=asked.shrink, most=asked.most)
    for case, complaints in tally.disagreements:
        print(pformat(case, width=100))
        print(*complaints, sep="\n", end="\n\n")
    for error in tally.unbuilt[:3]:
        print(f"could not be built: {error}")
    for doubt, count in tally.doubts.most_common(5):
        print(f"unknown {count} times: {doubt}")
    for fate, count in tally.fates.most_common():
        print(f"{count:6} {fate}")
    print(f"{tally}, seed {asked.seed}, {time.monotonic() - began:.0f} s")
    return 1 if tally.disagreements else 0
