"""What a check says, and the report that a run of checks makes."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

from kvmdiag.model.question import Question
from kvmdiag.model.snapshot import Gap
from kvmdiag.model.trace import Outcome, Walk

Role = Literal["cause", "latent", "context"]
Verdict = Literal["healthy", "faulty", "unknown"]


class Severity(StrEnum):
    """How bad a finding is: errors stop packets, warnings may, info does not."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Evidence(msgspec.Struct, frozen=True):
    """A fact that supports a finding, and where it was read."""

    fact: str
    origin: str


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A change ready to be pasted into a root shell where kvmdiag ran.

    ``undo`` is empty when there is nothing to undo: the step only makes a program do what it is
    there for.
    """

    check: str
    where: str
    command: str
    undo: str
    persist: str
    disruptive: bool = False


class Alternative(msgspec.Struct, frozen=True, kw_only=True):
    """Another way to cure a fault, and what it does besides (sentences as those of a plan)."""

    steps: tuple[Step, ...]
    side_effects: tuple[str, ...] = ()


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A fault, or a fact worth knowing, about ``subject`` (``host/mybr0``).

    ``verified`` is true when the simulated plan works with this fix and fails without it,
    false when simulation shows that it does not help, ``None`` when nothing could be shown.
    ``alternatives`` are other ways to the same end, the least harmful first. ``proof`` is set
    when the fault is only suspected: what would prove it.
    """

    check: str
    severity: Severity
    role: Role
    subject: str
    summary: str
    evidence: tuple[Evidence, ...] = ()
    fix: tuple[Step, ...] = ()
    verified: bool | None = None
    alternatives: tuple[Alternative, ...] = ()
    proof: str = ""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Steps in path order, and what the simulation says becomes of the packet after them.

    ``works`` tells whether request and reply both get through then (``None``: unknown);
    ``walk`` is the walk that shows it. ``side_effects`` are sentences: which other paths the
    steps would break, and which they would open that were closed.
    """

    steps: tuple[Step, ...]
    outcome_after: Outcome
    works: bool | None
    walk: Walk | None = None
    side_effects: tuple[str, ...] = ()


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """A check that could not be run: what it needs, and why that is not there."""

    check: str
    needs: str
    why: str


class PathResult(msgspec.Struct, frozen=True, kw_only=True):
    """One path that was judged, for reports that list them all."""

    walk: Walk
    causes: tuple[str, ...] = ()


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer of ``kvmdiag check``.

    ``walk`` is that of the asked path, ``None`` when no single path was asked; ``paths`` are
    all that were judged. ``passed`` are the ids of checks that had all their facts and found
    nothing. ``gaps`` are the snapshot's. ``notes`` are sentences on what was left out of the
    report on request, and on requests that were of no use.
    """

    verdict: Verdict
    question: Question | None
    findings: tuple[Finding, ...] = ()
    walk: Walk | None = None
    plan: Plan | None = None
    skipped: tuple[Skipped, ...] = ()
    passed: tuple[str, ...] = ()
    paths: tuple[PathResult, ...] = ()
    gaps: tuple[Gap, ...] = ()
    notes: tuple[str, ...] = ()
