"""``kvmdiag.report/1``: the report as one JSON object, for scripts.

Every key is always there; what does not apply is ``null`` or an empty list.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from kvmdiag.model.question import Question
from kvmdiag.model.report import PathResult, Plan, Report
from kvmdiag.reports import words
from kvmdiag.reports.trace_json import trace_object

SCHEMA = "kvmdiag.report/1"


def render(report: Report, *, verbose: int = 0) -> str:  # noqa: ARG001 - JSON tells all
    """The object as indented ASCII text, which no control character survives in."""
    return json.dumps(report_object(report), indent=2) + "\n"


def report_object(report: Report) -> dict[str, Any]:
    """The object in plain dicts and lists."""
    return {
        "schema": SCHEMA,
        "verdict": report.verdict,
        "summary": words.verdict(report),
        "question": None if report.question is None else question_object(report.question),
        "findings": [msgspec.to_builtins(finding) for finding in report.findings],
        "walk": None if report.walk is None else trace_object(report.walk),
        "plan": None if report.plan is None else _plan(report.plan),
        "skipped": [msgspec.to_builtins(skipped) for skipped in report.skipped],
        "passed": list(report.passed),
        "paths": [_path(result) for result in report.paths],
        "notes": list(report.notes),
        "gaps": [msgspec.to_builtins(gap) for gap in report.gaps],
    }


def question_object(question: Question) -> dict[str, Any]:
    """What was asked, in the user's words: ``--proto icmp`` asks for ICMPv6 too."""
    return {
        "from": question.source.text,
        "to": question.destination.text,
        "proto": "icmp" if question.proto == "icmpv6" else question.proto,
        "port": question.port,
    }


def _plan(plan: Plan) -> dict[str, Any]:
    return {
        "steps": [msgspec.to_builtins(step) for step in plan.steps],
        "outcome_after": plan.outcome_after.value,
        "works": plan.works,
        "side_effects": list(plan.side_effects),
    }


def _path(result: PathResult) -> dict[str, Any]:
    decisive = result.walk.decisive
    return {
        "question": question_object(result.walk.question),
        "works": result.walk.works,
        "outcome": decisive.outcome.value,
        "direction": decisive.direction,
        "causes": list(result.causes),
    }
