"""SARIF 2.1.0, for the code scanning of CI systems: findings, and paths that pass or fail.

A network has no source files, so places are logical ones (section 3.33 of the standard), named
as findings name them: ``host/mybr0``. A finding of the same check and subject keeps its
fingerprint from run to run.
Source: https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from kvmdiag import __version__
from kvmdiag.diagnose.check import load_checks
from kvmdiag.model.report import Finding, PathResult, Report, Severity
from kvmdiag.reports import words
from kvmdiag.reports.escape import one_line

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVEL = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
_KIND = {True: "pass", False: "fail", None: "open"}
_PATH_RULE = "path"


def render(report: Report, *, verbose: int = 0) -> str:  # noqa: ARG001 - JSON tells all
    """The document as indented ASCII text."""
    rules = _rules(report)
    index = {rule["id"]: number for number, rule in enumerate(rules)}
    results = [*map(_finding, report.findings), *map(_path, report.paths)]
    for result in results:
        result["ruleIndex"] = index[result["ruleId"]]
    notes = [f"{s.check} was left out; it needs {s.needs}: {s.why}" for s in report.skipped]
    run = {
        "tool": {"driver": {"name": "kvmdiag", "version": __version__, "rules": rules}},
        "invocations": [
            {
                "executionSuccessful": report.verdict != "unknown",
                "toolExecutionNotifications": [
                    {"level": "note", "message": _text(note)} for note in (*notes, *report.notes)
                ],
            }
        ],
        "results": results,
        "properties": {"verdict": report.verdict, "summary": one_line(words.verdict(report))},
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _rules(report: Report) -> list[dict[str, Any]]:
    """What the checks that found something look for, in their own words."""
    wanted = {finding.check for finding in report.findings}
    rules = [
        {
            "id": check.id,
            "shortDescription": _text(check.explanation.summary),
            "fullDescription": _text(check.explanation.cause),
            "help": _text("\n".join(f"{h}: {text}" for h, text in check.explanation.sections)),
            "defaultConfiguration": {"level": _LEVEL[check.severity]},
        }
        for check in load_checks()
        if check.id in wanted
    ]
    known = {rule["id"] for rule in rules}
    rules += [{"id": name} for name in sorted(wanted - known)]  # of a newer kvmdiag's report
    if report.paths:
        what = "A path that is meant to work does"
        rules.append({"id": _PATH_RULE, "shortDescription": _text(what)})
    return rules


def _finding(finding: Finding) -> dict[str, Any]:
    told = [finding.summary]
    told += [f"{evidence.fact} [{evidence.origin}]" for evidence in finding.evidence]
    told += [f"fix in {step.where}: {step.command}" for step in finding.fix]
    counts = finding.role != "context"
    return {
        "ruleId": finding.check,
        "kind": "fail" if counts else "informational",
        "level": _LEVEL[finding.severity] if counts else "none",
        "message": {"text": "\n".join(map(one_line, told))},
        "locations": [_place(finding.subject, "resource")],
        "partialFingerprints": {"checkAndSubject/v1": _print(finding.check, finding.subject)},
        "properties": {"role": finding.role, "verified": finding.verified},
    }


def _path(result: PathResult) -> dict[str, Any]:
    walk = result.walk
    name = words.path(walk.question)
    told = words.success(walk) if walk.works else words.ending(walk.decisive)
    return {
        "ruleId": _PATH_RULE,
        "kind": _KIND[walk.works],
        "level": "error" if walk.works is False else "none",
        "message": _text(f"{name}: {told}"),
        "locations": [_place(name, "path")],
        "partialFingerprints": {"checkAndSubject/v1": _print(_PATH_RULE, name)},
        "properties": {"causes": list(result.causes)},
    }


def _place(name: str, kind: str) -> dict[str, Any]:
    return {"logicalLocations": [{"fullyQualifiedName": one_line(name), "kind": kind}]}


def _print(check: str, subject: str) -> str:
    """What makes a finding the same one in two runs."""
    return hashlib.sha256(f"{check}\0{subject}".encode("utf-8", "backslashreplace")).hexdigest()


def _text(text: str) -> dict[str, str]:
    return {"text": one_line(text)}
