"""The answer in plain words: one sentence for a report, a walk or a path."""

from __future__ import annotations

from kvmdiag.model.question import Question
from kvmdiag.model.report import Finding, Plan, Report, Severity
from kvmdiag.model.trace import Outcome, RuleRef, Trace, Walk

ROLES = {"cause": "Cause", "latent": "Elsewhere", "context": "Worth knowing"}


def path(question: Question) -> str:
    """``node1 to 10.0.0.9``, with protocol and port where they are not plain ICMP."""
    return f"{question.source.text} to {_far_end(question)}"


def _far_end(question: Question) -> str:
    if question.port is not None:
        return f"{question.destination.text} ({question.proto} port {question.port})"
    if question.proto not in ("icmp", "icmpv6"):
        return f"{question.destination.text} ({question.proto})"
    return question.destination.text


def verdict(report: Report) -> str:
    """The first line of every report."""
    if report.question is not None:
        return _verdict_on_path(report, report.question)
    broken = sum(result.walk.works is False for result in report.paths)
    unclear = sum(result.walk.works is None for result in report.paths)
    total = count(len(report.paths), "path")
    faults = [f for f in report.findings if f.role != "context"]
    if report.verdict == "healthy":
        judged = "" if not report.paths else f"; {total} judged, and packets get through"
        return f"no fault found{judged}"
    if report.verdict == "unknown":
        which = f" on {unclear} of {total}" if unclear else ""
        return f"too little could be read to say whether all is well{which}"
    found = f"{count(len(faults), 'fault')} found" if faults else "no check found the cause"
    if not broken:
        return found
    return f"{found}; {broken} of {total} {'does' if broken == 1 else 'do'} not work"


def _verdict_on_path(report: Report, question: Question) -> str:
    source, target = question.source.text, _far_end(question)
    walk = report.walk
    if is_open(report):
        why = "" if walk is None else f": {ending(walk.decisive)}"
        return f"whether {source} reaches {target} cannot be told{why}"
    if walk is not None and walk.works:
        but = _elsewhere(report)
        # What lies beyond an uplink is not known, so reaching it is not claimed.
        left = any(trace.outcome is Outcome.LEFT for trace in walk.traces)
        claim = "nothing here keeps {} from {}" if left else "{} reaches {}"
        return f"{claim.format(source, target)}: {success(walk)}{but}"
    causes = [finding for finding in report.findings if finding.role == "cause"]
    return f"{source} cannot reach {target}: {_reason(walk, causes)}"


def is_open(report: Report) -> bool:
    """Whether nothing shows what becomes of the asked path, be there faults elsewhere or not."""
    works = report.walk is not None and report.walk.works
    if report.question is None or works:
        return False
    if report.verdict == "unknown":
        return True
    named = any(finding.role == "cause" for finding in report.findings)
    return not named and report.walk is not None and report.walk.works is None


def _elsewhere(report: Report) -> str:
    """What is wrong off the asked path, as a clause."""
    faults = sum(finding.role == "latent" for finding in report.findings)
    broken = sum(result.walk.works is False for result in report.paths)
    told = [count(faults, "fault")] if faults else []
    told += [f"{count(broken, 'path')} that {'does' if broken == 1 else 'do'} not work"] * (
        broken > 0
    )
    unclear = sum(result.walk.works is None for result in report.paths)
    if report.verdict == "unknown" and unclear:
        told.append(f"{count(unclear, 'path')} that cannot be told")
    return f"; elsewhere: {', '.join(told)}" if told else ""


def _reason(walk: Walk | None, causes: list[Finding]) -> str:
    more = "" if len(causes) < 2 else f" (the first of {len(causes)} causes)"
    if causes:
        return causes[0].summary.rstrip(".") + more
    if walk is None:
        return "no check explains why"
    return ending(walk.decisive)


def success(walk: Walk) -> str:
    """How request and reply get through."""
    end = walk.request.end
    first = walk.request.hops[0].packet.src
    if walk.request.outcome is Outcome.LEFT:
        renamed = f" as {end.packet.src}" if end.packet.src != first else ""
        sent = f"the packet leaves by {end.link}{renamed}"
    else:
        sent = f"the packet is delivered in {end.stack}"
    if walk.reply is None:
        return sent
    if walk.reply.outcome is Outcome.LEFT:
        return f"{sent} and the reply leaves by {walk.reply.end.link}"
    if walk.request.outcome is Outcome.LEFT:
        return f"{sent}, and a reply gets back to {walk.reply.end.stack}"
    return f"{sent} and the reply reaches {walk.reply.end.stack}"


def ending(trace: Trace) -> str:
    """Where and why a packet's way ended."""
    end = trace.end
    what = "the reply" if trace.direction == "reply" else "the packet"
    place = end.stack if end.link is None else f"{end.stack}/{end.link}"
    fate = {
        Outcome.DELIVERED: f"{what} is delivered at {place}",
        Outcome.LEFT: f"{what} leaves at {place}",
        Outcome.DROPPED: f"{what} is dropped at {place}",
        Outcome.REJECTED: f"{what} is rejected at {place}",
        Outcome.NO_ROUTE: f"{what} finds no route at {place}",
        Outcome.UNRESOLVED: f"nobody answers for the next hop of {what} at {place}",
        Outcome.LOOP: f"{what} goes round in a loop at {place}",
        Outcome.UNKNOWN: f"what becomes of {what} at {place} is unknown",
    }[trace.outcome]
    if isinstance(end.decider, RuleRef) and trace.outcome is Outcome.UNKNOWN:
        return f"{fate}: {end.because or end.decider.text} ({end.decider})"
    if isinstance(end.decider, RuleRef):
        kind = "" if end.decider.index is None else "rule "
        return f"{fate} by {kind}{end.decider.text} ({end.decider})"
    why = end.because or (str(end.decider) if end.decider is not None else "")
    return f"{fate}: {why}" if why else fate


def promise(repair: Plan) -> str:
    """What the simulation says of the plan."""
    if repair.works:
        how = "" if repair.walk is None else f": {success(repair.walk)}"
        return f"proved in simulation, with these steps the packet gets through{how}"
    if repair.works is None:
        return "whether these steps suffice could not be shown"
    return f"these steps are not enough; after them the packet ends as {repair.outcome_after}"


def count(number: int, noun: str) -> str:
    """``1 path``, ``2 paths``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def worst(findings: tuple[Finding, ...]) -> Severity | None:
    """The worst severity among the faults; what is merely context does not count."""
    order = list(Severity)
    faults = [finding.severity for finding in findings if finding.role != "context"]
    return min(faults, key=order.index, default=None)
