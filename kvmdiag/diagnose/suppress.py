"""What a person has decided about findings: ignores, other severities, and a baseline.

``kvmdiag.toml``::

    fail-on = "warning"

    [severities]
    guest-firewall = "info"

    [[ignore]]
    check = "masquerade-too-wide"
    subject = "host/br*"          # a glob; everything when left out
    reason = "the lab needs it"
    expires = 2026-12-31

An ignore must give a reason. One that has expired counts no more, and one that matches nothing
is of no use; both are told.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from datetime import date
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from kvmdiag.errors import InputError
from kvmdiag.model.report import Finding, PathResult, Report, Severity, Verdict


class Ignore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Findings that are known and not to be told; ``subject`` is a glob."""

    check: str
    reason: str
    subject: str = "*"
    expires: date | None = None

    def covers(self, finding: Finding) -> bool:
        """Whether the finding is one of those."""
        return self.check == finding.check and fnmatchcase(finding.subject, self.subject)

    def __str__(self) -> str:
        return f"{self.check} on {self.subject} ({self.reason})"


class Decisions(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"
):
    """A whole ``kvmdiag.toml``."""

    ignore: tuple[Ignore, ...] = ()
    severities: Mapping[str, Severity] = {}
    fail_on: Severity | None = None


def parse_decisions(text: str, known: frozenset[str]) -> Decisions:
    """The decisions in a file's text; ``known`` are the ids of all checks.

    Raises:
        InputError: it is no TOML, has a key that means nothing, or names an unknown check.

    """
    try:
        raw: dict[str, Any] = tomllib.loads(text)
        decisions = msgspec.convert(raw, Decisions)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise InputError(str(error)) from error
    named = {*decisions.severities, *(ignore.check for ignore in decisions.ignore)}
    for name in sorted(named - known):
        raise InputError(f"there is no check {name!r}; kvmdiag explain lists them")
    for ignore in decisions.ignore:
        if not ignore.reason.strip():
            raise InputError(f"the ignore of {ignore.check} gives no reason")
    return decisions


def decide(report: Report, decisions: Decisions, today: date) -> Report:
    """The report as these decisions leave it, with notes on ignores that are of no use."""
    alive = [i for i in decisions.ignore if i.expires is None or i.expires >= today]
    notes = [f"expired on {i.expires}: ignore of {i}" for i in decisions.ignore if i not in alive]
    findings = tuple(_with_severity(f, decisions.severities) for f in report.findings)
    ignored = [f for f in findings if any(ignore.covers(f) for ignore in alive)]
    notes += [
        f"matches nothing: ignore of {ignore}"
        for ignore in alive
        if not any(ignore.covers(finding) for finding in findings)
    ]
    if ignored:
        notes.insert(0, f"ignored: {', '.join(f'{f.check} on {f.subject}' for f in ignored)}")
    changed = msgspec.structs.replace(report, findings=findings, notes=(*report.notes, *notes))
    return _without(changed, ignored)


def only_new(report: Report, baseline: bytes) -> Report:
    """The report without what an earlier one, as JSON, has told already.

    Raises:
        InputError: that is no report of kvmdiag's.

    """
    try:
        old = msgspec.json.decode(baseline, type=_Baseline)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(f"not a report of kvmdiag check --format json: {error}") from error
    if old.schema != "kvmdiag.report/1":
        raise InputError(f"not a report this kvmdiag understands: {old.schema[:60]}")
    told = {(finding.check, finding.subject) for finding in old.findings}
    known = [f for f in report.findings if (f.check, f.subject) in told]
    note = f"{len(known)} of {len(report.findings)} findings are in the baseline"
    changed = msgspec.structs.replace(report, notes=(*report.notes, note))
    return _without(changed, known)


class _Told(msgspec.Struct):
    check: str
    subject: str


class _Baseline(msgspec.Struct):
    schema: str
    findings: list[_Told]


def _with_severity(finding: Finding, severities: Mapping[str, Severity]) -> Finding:
    severity = severities.get(finding.check)
    return finding if severity is None else msgspec.structs.replace(finding, severity=severity)


def _without(report: Report, dropped: list[Finding]) -> Report:
    """Without these findings, and without the paths that nothing else stops."""
    kept = tuple(f for f in report.findings if f not in dropped)
    gone = {finding.check for finding in dropped} - {finding.check for finding in kept}
    paths = tuple(
        path
        for path in report.paths
        if path.walk.question == report.question
        or not path.causes
        or not gone.issuperset(path.causes)
    )
    # A plan against nothing that is still told is of no use, but to who asked for the path.
    told = {finding.check for finding in kept}
    plan = report.plan
    if plan is not None and report.question is None and dropped:
        plan = plan if any(step.check in told for step in plan.steps) else None
    return msgspec.structs.replace(
        report, findings=kept, paths=paths, plan=plan, verdict=_verdict(report, kept, paths)
    )


def _verdict(
    report: Report, findings: tuple[Finding, ...], paths: tuple[PathResult, ...]
) -> Verdict:
    fates = [path.walk.works for path in paths]
    grave = [f for f in findings if f.role != "context" and f.severity is Severity.ERROR]
    if False in fates or grave:
        return "faulty"
    return "unknown" if report.verdict == "unknown" or None in fates else "healthy"
