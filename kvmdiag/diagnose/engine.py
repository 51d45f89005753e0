"""Judges paths: causes, what lies dormant beside them, and a repair plan that is proved.

A fault is a cause only when curing it, on a copy of the snapshot, changes what becomes of the
packet. What is reported is decided so:

- ``cause``: it stops the asked path, or without a question any path that is meant to work;
- ``latent``: it stops another path that is meant to work, and not the asked one; or it is a
  fault by itself, with no packet lost to it yet;
- ``context``: it is meant to be so, or it is only suspected.

What stops a path and has no remedy is told of the path as it is with all cures carried out:
it is a cause when the facts show it, though nothing could be proved by a cure.

The verdict is faulty when any judged path fails or any error was found, be it latent; unknown
when a path cannot be told and no cause was found; healthy otherwise. What only the routers
beyond a routed network can tell is judged when it is asked about.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kvmdiag.actions.step import step
from kvmdiag.diagnose import coverage, remarks
from kvmdiag.diagnose.check import Check
from kvmdiag.diagnose.effects import BREAKS, side_effects
from kvmdiag.diagnose.intent import intended_paths, is_for_others, refuses_ping
from kvmdiag.diagnose.search import Cure, Cures, search
from kvmdiag.diagnose.state import State, cannot_tell, obstacle
from kvmdiag.model.question import Question
from kvmdiag.model.report import (
    Alternative,
    Finding,
    PathResult,
    Plan,
    Report,
    Role,
    Severity,
    Step,
    Verdict,
)
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.trace import Outcome, Walk


def diagnose(
    snapshot: Snapshot,
    checks: Sequence[Check],
    question: Question | None = None,
    *,
    source: str | None = None,
) -> Report:
    """The report on one path, or without a question on all that are meant to work.

    ``source`` names the stack whose paths alone are asked about when there is no question.
    """
    base = State(snapshot)
    intended = tuple(
        path
        for path in intended_paths(snapshot)
        if not is_for_others(snapshot, base.walk(path)) and not refuses_ping(base.walk(path))
    )
    asked = tuple(path for path in intended if source in (None, path.source.stack))
    if question is not None:
        asked = (question,)
    others = tuple(path for path in intended if path not in asked)
    causes = _cures(base, checks, asked, intended)
    latent = _cures(_after(base, causes), checks, others, intended)
    judged = _Judged(base, causes, latent, asked, (*asked, *others), intended)
    findings = _distinct(
        (
            *judged.findings(causes, "cause"),
            *remarks.unremedied(judged.cured, checks, asked, "cause"),
            *judged.findings(latent, "latent"),
            *remarks.unremedied(judged.cured, checks, others, "latent"),
            *remarks.surveyed(base, checks, judged.judged, question),
        )
    )
    failing = [base.walk(path) for path in judged.judged if not base.works(path)]
    spoke = {finding.check for finding in findings}
    spoke |= {cure.check.id for cure in (*causes, *latent)}
    skipped = coverage.skipped(snapshot, checks, failing, spoke)
    return Report(
        verdict=_verdict(base, judged, findings),
        question=question,
        findings=findings,
        walk=None if question is None else base.walk(question),
        plan=judged.plan(),
        skipped=skipped,
        passed=coverage.passed(snapshot, checks, spoke | {left.check for left in skipped}),
        paths=judged.paths(),
        gaps=snapshot.gaps,
    )


def _distinct(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Each check says one thing of each subject: the gravest, which comes first."""
    kept: dict[tuple[str, str], Finding] = {}
    for finding in findings:
        kept.setdefault((finding.check, finding.subject), finding)
    return tuple(kept.values())


def _cures(
    base: State, checks: Sequence[Check], paths: Iterable[Question], intended: Sequence[Question]
) -> Cures:
    """What cures all these paths: each is searched in the state that cures those before it."""
    cures: Cures = ()
    state = base
    hopeless = set()
    for path in paths:
        if state.works(path) or cannot_tell(state.walk(path)):
            continue
        before = state
        # What nothing cured on one path need not be tried again for every guest of a network.
        end = obstacle(before.walk(path))
        if end in hopeless:
            continue

        def harm(after: State, before: State = before) -> int:
            return sum(
                1 for other in intended if before.works(other) and after.works(other) is False
            )

        found = search(state, checks, path, harm)
        cures = (*cures, *found)
        state = _after(base, cures)
        if not state.works(path):
            hopeless.add(end)
    return cures


def _after(state: State, cures: Iterable[Cure]) -> State:
    return state.after(action for cure in cures for action in cure.actions)


@dataclass
class _Judged:
    """All cures, and how each path fares without one of them and with all."""

    base: State
    causes: Cures
    latent: Cures
    asked: tuple[Question, ...]
    judged: tuple[Question, ...]
    intended: tuple[Question, ...]

    def __post_init__(self) -> None:
        every = (*self.causes, *self.latent)
        self.cured = _after(self.base, every)
        self.planned = _after(self.base, self.causes)
        self.without = self._without(every)
        self.plan_without = self._without(self.causes)
        self.steps = dict(self._steps(every))

    def _without(self, cures: Cures) -> dict[int, State]:
        """For each cure, the state that all the others make."""
        return {
            id(cure): _after(self.base, (other for other in cures if other is not cure))
            for cure in cures
        }

    def _steps(self, cures: Cures) -> Iterable[tuple[int, tuple[Step, ...]]]:
        """The steps of each cure; each is undone to the state that the one before it left."""
        snapshot = self.base.snapshot
        for cure in cures:
            steps = []
            for action in cure.actions:
                steps.append(step(action, cure.check.id, snapshot))
                snapshot = action.apply(snapshot)
            yield id(cure), tuple(steps)

    def needs(self, path: Question, cure: Cure) -> bool:
        """Whether a path works with all cures and not without this one."""
        return self.cured.works(path) is True and self.without[id(cure)].works(path) is not True

    def plan_needs(self, path: Question, cure: Cure) -> bool:
        """The same of the plan alone: what lies off the asked path may not help it along."""
        without = self.plan_without[id(cure)]
        return self.planned.works(path) is True and without.works(path) is not True

    def findings(self, cures: Cures, role: Role) -> tuple[Finding, ...]:
        """One finding for each check and subject, in path order."""
        groups: dict[tuple[str, str], list[Cure]] = {}
        for cure in cures:
            groups.setdefault(cure.key, []).append(cure)
        return tuple(self._finding(group, role) for group in groups.values())

    def _finding(self, cures: list[Cure], role: Role) -> Finding:
        first = cures[0]
        return Finding(
            check=first.check.id,
            severity=first.suspicion.severity or first.check.severity,
            role=role,
            subject=first.suspicion.subject,
            summary=first.suspicion.summary,
            evidence=tuple(
                dict.fromkeys(fact for cure in cures for fact in cure.suspicion.evidence)
            ),
            fix=tuple(line for cure in cures for line in self.steps[id(cure)]),
            verified=self._is_verified(cures, role),
            alternatives=self._alternatives(cures) if role == "cause" else (),
        )

    def _alternatives(self, cures: list[Cure]) -> tuple[Alternative, ...]:
        """Other remedies of the same fault with which the plan works, the least harmful first.

        Harm is, in this order: paths that break, areas that are opened, traffic of others.
        """
        (first, *more) = cures
        if more:
            return ()
        found = []
        failing = [path for path in self.asked if not self.base.works(path)]
        for remedy in first.suspicion.remedies:
            if remedy == first.actions:
                continue
            state = self.plan_without[id(first)].after(remedy)
            if all(state.works(path) == self.planned.works(path) for path in failing):
                snapshot = self.base.snapshot
                steps = tuple(step(action, first.check.id, snapshot) for action in remedy)
                besides = side_effects(self.base, state, self.asked, self.intended)
                found.append(Alternative(steps=steps, side_effects=besides))
        return tuple(sorted(found, key=_harm))

    def _is_verified(self, cures: list[Cure], role: Role) -> bool | None:
        """True when a path needs each of them; false when a path stays broken with them."""
        state, paths, needs = self.cured, self.judged, self.needs
        if role == "cause":
            state, paths, needs = self.planned, self.asked, self.plan_needs
        if all(any(needs(path, cure) for path in paths) for cure in cures):
            return True
        return False if any(state.works(path) is False for path in paths) else None

    def plan(self) -> Plan | None:
        """The steps against the causes, and the walk that shows what they achieve."""
        failing = [path for path in self.asked if not self.base.works(path)]
        if not self.causes or not failing:
            return None
        fates = [self.planned.works(path) for path in failing]
        works = False if False in fates else None if None in fates else True
        walk = self.planned.walk(failing[fates.index(works)])
        return Plan(
            steps=tuple(line for cure in self.causes for line in self.steps[id(cure)]),
            outcome_after=_outcome(walk),
            works=works,
            walk=walk,
            side_effects=side_effects(self.base, self.planned, self.asked, self.intended),
        )

    def paths(self) -> tuple[PathResult, ...]:
        """Each judged path as it is now, with the checks that explain it."""
        return tuple(
            PathResult(walk=self.base.walk(path), causes=self._causes_of(path))
            for path in self.judged
        )

    def _causes_of(self, path: Question) -> tuple[str, ...]:
        if self.base.works(path):
            return ()
        needed = (c for c in (*self.causes, *self.latent) if self.needs(path, c))
        return tuple(dict.fromkeys(cure.check.id for cure in needed))


def _harm(alternative: Alternative) -> tuple[int, int, bool]:
    broken = sum(effect.startswith(BREAKS) for effect in alternative.side_effects)
    opened = len(alternative.side_effects) - broken
    return broken, opened, any(line.disruptive for line in alternative.steps)


def _outcome(walk: Walk) -> Outcome:
    """How the way ends: that of the reply when everything gets through."""
    return walk.traces[-1].outcome if walk.works else walk.decisive.outcome


def _verdict(base: State, judged: _Judged, findings: Sequence[Finding]) -> Verdict:
    fates = [base.works(path) for path in judged.judged]
    grave = [f for f in findings if f.role != "context" and f.severity is Severity.ERROR]
    if False in fates or grave:
        return "faulty"
    if None in fates or (not fates and _is_blind(base.snapshot)):
        return "unknown"
    return "healthy"


def _is_blind(snapshot: Snapshot) -> bool:
    """Whether there are no paths to judge because too little was read to name any."""
    return any(None in (s.links, s.addresses, s.routes) for s in snapshot.stacks)
