"""What is told and not proved: obstacles without a remedy, intended ones, mere suspicions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from kvmdiag.actions.step import step
from kvmdiag.diagnose.check import Check, Suspicion
from kvmdiag.diagnose.search import lacking, suspicions
from kvmdiag.diagnose.state import State, obstacle
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.question import Question
from kvmdiag.model.report import Finding, Role, Severity, Step
from kvmdiag.model.snapshot import Snapshot


def unremedied(
    cured: State, checks: Sequence[Check], paths: Iterable[Question], role: Role
) -> Iterator[Finding]:
    """Of the paths that fail even with all cures: what stops them and has no proved remedy."""
    told = set()
    for path in paths:
        if cured.works(path) or obstacle(cured.walk(path)) in told:
            continue
        told.add(obstacle(cured.walk(path)))
        for check, said in suspicions(cured, checks, cured.walk(path)):
            if said.by_design or said.proof or not said.remedies:
                yield _finding(cured.snapshot, check, said, role)


def surveyed(
    state: State, checks: Sequence[Check], paths: Sequence[Question], question: Question | None
) -> Iterator[Finding]:
    """What the checks say of the whole, whatever becomes of any path."""
    for check in checks:
        if check.survey is None:
            continue
        hidden = frozenset(lacking(state.snapshot, check))
        for said in check.survey(Survey(state, paths, question, hidden)):
            yield _finding(state.snapshot, check, said, "cause" if said.decides else "latent")


def _finding(snapshot: Snapshot, check: Check, said: Suspicion, role: Role) -> Finding:
    severity = said.severity or check.severity
    if said.by_design:
        severity = Severity.INFO
    harmless = said.by_design or said.proof or severity is Severity.INFO
    return Finding(
        check=check.id,
        severity=severity,
        role="context" if harmless else role,
        subject=said.subject,
        summary=said.summary,
        evidence=said.evidence,
        fix=_steps(snapshot, check, said),
        proof=said.proof,
    )


def _steps(snapshot: Snapshot, check: Check, said: Suspicion) -> tuple[Step, ...]:
    """The least harmful remedy, as a proposal."""
    found = []
    for action in said.remedies[0] if said.remedies else ():
        found.append(step(action, check.id, snapshot))
        snapshot = action.apply(snapshot)
    return tuple(found)
