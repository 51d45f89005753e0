"""A report for a person at a terminal: the answer first, then why, then what to do."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from rich.console import Group, RenderableType

from kvmdiag.model.report import Finding, Plan, Report, Step
from kvmdiag.model.trace import Trace, Walk
from kvmdiag.reports import words
from kvmdiag.reports.layout import Lines

_MARK = {
    "healthy": ("✓ ", "bold green"),
    "faulty": ("✗ ", "bold red"),
    "unknown": ("? ", "bold yellow"),
}
_SEVERITY = {"error": "red", "warning": "yellow", "info": "cyan"}


def render(report: Report, *, verbose: int = 0) -> RenderableType:
    """The whole report; ``verbose`` adds the walk hop by hop and everything left out."""
    lines = Lines()
    lines.prose((words.verdict(report), "bold"), lead=_mark(report))
    if report.walk is not None:
        _path(lines, report.walk)
    for finding in sorted(report.findings, key=lambda f: list(words.ROLES).index(f.role)):
        _finding(lines, finding, verbose)
    if report.plan is not None and report.plan.steps:
        plan(lines, report.plan)
    _paths(lines, report, verbose)
    _assumed(lines, report)
    _section(lines, "Left out", report.notes)
    _unread(lines, report, everything=verbose > 0 or report.verdict == "unknown")
    if verbose and report.walk is not None:
        from kvmdiag.reports.trace_text import render_trace

        return Group(lines, "", render_trace(report.walk, verbose=verbose))
    return lines


def render_verdict(report: Report) -> RenderableType:
    """The verdict alone, in one line whatever the width."""
    lines = Lines()
    lines.verbatim(words.verdict(report), "bold", lead=_mark(report))
    return lines


def render_plan(repair: Plan) -> RenderableType:
    """The plan alone."""
    lines = Lines()
    plan(lines, repair)
    return lines


def _mark(report: Report) -> tuple[str, str]:
    """The sign of the asked path, else of the whole; a fault elsewhere is told in words."""
    works = report.walk is not None and report.walk.works
    state = "unknown" if words.is_open(report) else report.verdict
    return _MARK["healthy" if works else state]


def _path(lines: Lines, walk: Walk) -> None:
    lines.blank()
    for trace in walk.traces:
        if trace is walk.reply and walk.works:
            continue  # the way back of a path that works is no news
        name = "the packet" if trace.direction == "request" else "the reply"
        parts: list[str | tuple[str, str]] = []
        for stack, links in places(trace):
            parts += [(" → ", "dim")] if parts else []
            parts += [(f"{stack} ", "dim"), " ".join(links)]
        if trace.arrived is False:
            parts.append((" ✗", "bold red"))
        elif trace.arrived is None:
            parts.append((" ?", "bold yellow"))
        lines.prose(*parts, indent=2, lead=(f"{name:<12}", "dim"))


def places(trace: Trace) -> list[tuple[str, list[str]]]:
    """The stacks on the way, each with its links in the order the packet touched them."""
    found: list[tuple[str, list[str]]] = []
    for stack, hops in groupby(trace.hops, key=lambda hop: hop.stack):
        links = [link for link, _ in groupby(hop.link for hop in hops if hop.link)]
        found.append((stack, links))
    return found


def _finding(lines: Lines, finding: Finding, verbose: int) -> None:
    lines.blank()
    style = _SEVERITY[finding.severity]
    proof = {True: ", proved in simulation", False: ", the fix does not help", None: ""}
    lines.prose(
        (finding.check, f"bold {style}"),
        (
            f"  {finding.severity} on {finding.subject}"
            + (proof[finding.verified] if finding.role == "cause" else ""),
            "dim",
        ),
        lead=(f"{words.ROLES[finding.role]}: ", "bold"),
    )
    lines.prose(finding.summary, indent=2)
    if finding.proof:
        lines.prose(finding.proof, indent=2, lead=("suspected only; proof: ", "dim"))
    if finding.role == "context" and not verbose:
        return
    for evidence in finding.evidence:
        lines.prose(evidence.fact, (f"  {evidence.origin}", "dim"), indent=2, lead=("· ", "dim"))
    if finding.role != "cause" or finding.verified is None:
        for step in finding.fix:
            lines.verbatim(step.command, "cyan", indent=4, lead=(f"{_fix_in(step)}: ", "dim"))
    if finding.role == "cause" and not finding.fix:
        lines.verbatim(f"kvmdiag explain {finding.check}", indent=4, lead=("by hand: ", "dim"))
    for other in finding.alternatives if verbose else ():
        for step in other.steps:
            lines.verbatim(step.command, "cyan", indent=4, lead=("or: ", "dim"))
        for effect in other.side_effects:
            lines.prose((effect, "yellow"), indent=8, lead=("besides: ", "bold yellow"))


def _fix_in(step: Step) -> str:
    """``fix``, with the guest whose owner alone can type it."""
    return f"fix, {step.where}" if step.where.startswith("inside ") else "fix"


def plan(lines: Lines, repair: Plan) -> None:
    """Numbered commands, each with its undo and how to keep it."""
    lines.blank()
    lines.prose(("Repair", "bold"), (f": {words.promise(repair)}", ""))
    for number, step in enumerate(repair.steps, 1):
        _step(lines, number, step)
    for effect in repair.side_effects:
        lines.prose((effect, "yellow"), indent=2, lead=("besides: ", "bold yellow"))


def _step(lines: Lines, number: int, step: Step) -> None:
    lead = f"{number}. "
    margin = 2 + len(lead)
    place = "in a root shell where kvmdiag ran"
    if step.where.startswith("inside "):
        place = f"to be typed {step.where}; it can be entered by its owner only"
    lines.verbatim(step.command, "bold cyan", indent=2, lead=lead)
    details = [f"changes {step.where}"] if place.startswith("in a") else [place]
    details.append(f"for {step.check}")
    lines.prose(("; ".join(details), "dim"), indent=margin)
    if step.disruptive:
        lines.prose(("affects the traffic of others", "yellow"), indent=margin)
    if step.undo:
        lines.verbatim(step.undo, "dim cyan", indent=margin, lead=("undo  ", "dim"))
    if step.persist:
        lines.prose((step.persist, ""), indent=margin, lead=("keep  ", "dim"))


def _paths(lines: Lines, report: Report, verbose: int) -> None:
    """The other paths that were judged; those that work on demand only."""
    shown = [
        result
        for result in report.paths
        if result.walk.question != report.question and (verbose or result.walk.works is not True)
    ]
    if not shown:
        return
    lines.blank()
    lines.prose(("Paths" if report.question is None else "Other paths", "bold"))
    for result in shown:
        state = {True: "healthy", False: "faulty", None: "unknown"}[result.walk.works]
        walk = result.walk
        told = words.success(walk) if walk.works else words.ending(walk.decisive)
        because = f" ({', '.join(result.causes)})" if result.causes else ""
        lines.prose(
            (words.path(walk.question), "bold"), f": {told}{because}", indent=2, lead=_MARK[state]
        )


def _assumed(lines: Lines, report: Report) -> None:
    sentences: list[str] = []
    if report.question is not None:
        sentences += [*report.question.source.assumed, *report.question.destination.assumed]
    if report.walk is not None:
        for trace in report.walk.traces:
            sentences += trace.assumptions
    _section(lines, "Assumed", dict.fromkeys(sentences))


def _unread(lines: Lines, report: Report, *, everything: bool) -> None:
    if not everything:
        told = []
        missing = sum(not gap.expected for gap in report.gaps)
        if missing:
            told.append(f"{words.count(missing, 'fact')} could not be read")
        if report.skipped:
            told.append(f"{words.count(len(report.skipped), 'check')} skipped")
        if told:
            lines.blank()
            lines.prose((f"{', '.join(told)}; -v lists what was missing", "dim"))
        return
    _section(
        lines,
        "Not read",
        dict.fromkeys(
            f"{gap.fact} of {gap.stack}: {gap.why}; {gap.help}"
            if gap.stack
            else f"{gap.fact}: {gap.why}; {gap.help}"
            for gap in report.gaps
        ),
    )
    _section(
        lines,
        "Skipped",
        (f"{s.check} needs {s.needs}: {s.why}" for s in report.skipped),
    )


def _section(lines: Lines, title: str, sentences: Iterable[str]) -> None:
    sentences = list(sentences)
    if not sentences:
        return
    lines.blank()
    lines.prose((title, "bold"))
    for sentence in sentences:
        lines.prose(sentence, indent=2, lead=("· ", "dim"))
