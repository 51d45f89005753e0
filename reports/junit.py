"""JUnit XML, for CI systems: one test case per path, per finding, and per check that was asked.

A check that passed is a case as well, so that a run shows what was judged.

The format is the one Jenkins, GitLab and pytest agree on (the "xunit2" schema of Jenkins'
xunit plugin): suites with counts, cases with at most one failure or skipped element.
"""

from __future__ import annotations

from xml.etree import ElementTree as ET

from kvmdiag.model.report import Finding, PathResult, Report, Severity
from kvmdiag.reports import words
from kvmdiag.reports.escape import one_line, xml_safe


def render(report: Report, *, verbose: int = 0) -> str:  # noqa: ARG001 - CI wants all of it
    """The document as text, with its declaration."""
    suite = ET.Element("testsuite", name="kvmdiag")
    for result in _judged(report):
        _path_case(suite, result)
    for finding in report.findings:
        _finding_case(suite, finding)
    for skipped in report.skipped:
        case = _case(suite, "check", skipped.check)
        ET.SubElement(case, "skipped", message=_attribute(f"needs {skipped.needs}: {skipped.why}"))
    for check in report.passed:
        _case(suite, "check", check)
    if not len(suite):
        _whole_case(suite, report)
    counts = {
        "tests": str(len(suite)),
        "failures": str(len(suite.findall("testcase/failure"))),
        "errors": str(len(suite.findall("testcase/error"))),
        "skipped": str(len(suite.findall("testcase/skipped"))),
        "time": "0",
    }
    for name, value in counts.items():
        suite.set(name, value)
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, "unicode") + "\n"


def _judged(report: Report) -> tuple[PathResult, ...]:
    if report.paths or report.walk is None:
        return report.paths
    causes = tuple(f.check for f in report.findings if f.role == "cause")
    return (PathResult(walk=report.walk, causes=causes),)


def _case(suite: ET.Element, kind: str, name: str) -> ET.Element:
    return ET.SubElement(
        suite, "testcase", classname=f"kvmdiag.{kind}", name=_attribute(name), time="0"
    )


def _path_case(suite: ET.Element, result: PathResult) -> None:
    walk = result.walk
    case = _case(suite, "path", words.path(walk.question))
    if walk.works is None:
        ET.SubElement(case, "skipped", message=_attribute(words.ending(walk.decisive)))
    elif not walk.works:
        failure = ET.SubElement(
            case,
            "failure",
            message=_attribute(words.ending(walk.decisive)),
            type=walk.decisive.outcome.value,
        )
        failure.text = xml_safe("\n".join(f"cause: {check}" for check in result.causes))


def _finding_case(suite: ET.Element, finding: Finding) -> None:
    """Errors fail; a warning, and what is harmless, is a case that passes and says so."""
    case = _case(suite, "check", f"{finding.check} {finding.subject}")
    told = [f"{finding.severity} ({finding.role})"]
    told += [f"{evidence.fact} [{evidence.origin}]" for evidence in finding.evidence]
    told += [f"fix in {step.where}: {step.command}" for step in finding.fix]
    if finding.severity is Severity.ERROR and finding.role != "context":
        failure = ET.SubElement(
            case, "failure", message=_attribute(finding.summary), type=_attribute(finding.check)
        )
        failure.text = xml_safe("\n".join(map(one_line, told)))
    else:
        output = ET.SubElement(case, "system-out")
        output.text = xml_safe("\n".join(map(one_line, [finding.summary, *told])))


def _whole_case(suite: ET.Element, report: Report) -> None:
    """A report in which nothing was judged by itself still says how it ended."""
    case = _case(suite, "verdict", words.verdict(report))
    if report.verdict == "unknown":
        ET.SubElement(case, "skipped", message=_attribute(words.verdict(report)))


def _attribute(text: str) -> str:
    return xml_safe(one_line(text))
