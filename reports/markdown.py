"""A report as Markdown, for a ticket, a chat or the summary page of a CI job."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kvmdiag.model.report import Finding, PathResult, Plan, Report, Step
from kvmdiag.reports import words
from kvmdiag.reports.escape import markdown_code as code
from kvmdiag.reports.escape import markdown_safe as plain

_MARK = {True: "✓", False: "✗", None: "?"}


def render(report: Report, *, verbose: int = 0) -> str:  # noqa: ARG001 - a ticket wants all of it
    """The whole report."""
    lines = [f"**{plain(words.verdict(report))}**"]
    for role, title in words.ROLES.items():
        found = [finding for finding in report.findings if finding.role == role]
        if found:
            lines += ["", f"### {title}"]
        for finding in found:
            lines += ["", *_finding(finding)]
    if report.plan is not None and report.plan.steps:
        lines += ["", *_plan(report.plan)]
    if report.paths:
        lines += ["", "### Paths", "", *map(_path, report.paths)]
    left_out = [f"{s.check} needs {s.needs}: {s.why}" for s in report.skipped]
    for title, sentences in (("Left out", report.notes), ("Skipped", left_out)):
        if sentences:
            lines += ["", f"### {title}", "", *(f"- {plain(text)}" for text in sentences)]
    return "\n".join(lines) + "\n"


def _finding(finding: Finding) -> Iterator[str]:
    yield f"- {code(finding.check)} ({finding.severity} on {plain(finding.subject)})  "
    yield f"  {plain(finding.summary)}"
    if finding.proof:
        yield f"  *Suspected only; proof:* {plain(finding.proof)}"
    for evidence in finding.evidence:
        yield f"  - {plain(evidence.fact)} ({plain(evidence.origin)})"


def _plan(plan: Plan) -> Iterator[str]:
    yield f"### Repair: {plain(words.promise(plan))}"
    yield ""
    for number, step in enumerate(plan.steps, 1):
        yield from _step(number, step)
    for effect in plan.side_effects:
        yield f"- *besides:* {plain(effect)}"


def _step(number: int, step: Step) -> Iterable[str]:
    lines = [f"{number}. {code(step.command)} ({plain(step.where)}, for {plain(step.check)})"]
    if step.undo:
        lines.append(f"   - undo: {code(step.undo)}")
    if step.persist:
        lines.append(f"   - keep: {plain(step.persist)}")
    if step.disruptive:
        lines.append("   - affects the traffic of others")
    return lines


def _path(result: PathResult) -> str:
    walk = result.walk
    told = words.success(walk) if walk.works else words.ending(walk.decisive)
    because = f" ({', '.join(result.causes)})" if result.causes else ""
    return f"- {_MARK[walk.works]} {plain(words.path(walk.question))}: {plain(told + because)}"
