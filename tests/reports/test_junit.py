"""What a CI system reads."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from defusedxml.ElementTree import fromstring
from msgspec.structs import replace

from kvmdiag.model.report import PathResult, Report, Severity
from kvmdiag.reports import junit

# Jenkins' xunit plugin, junit-10.xsd: what may stand in what, and what must be there.
ATTRIBUTES = {
    "testsuites": set(),
    "testsuite": {"name", "tests", "failures", "errors", "skipped", "time"},
    "testcase": {"classname", "name", "time"},
    "failure": {"message", "type"},
    "skipped": {"message"},
    "system-out": set(),
}
CHILDREN = {
    "testsuites": {"testsuite"},
    "testsuite": {"testcase"},
    "testcase": {"failure", "skipped", "system-out"},
}


def parsed(report: Report) -> Element:
    """The document, after a look at its form."""
    root: Element = fromstring(junit.render(report))
    assert root.tag == "testsuites"
    for element in root.iter():
        assert set(element.attrib) == ATTRIBUTES[element.tag]
        assert {child.tag for child in element} <= CHILDREN.get(element.tag, set())
    for suite in root:
        assert int(suite.attrib["tests"]) == len(suite)
        assert int(suite.attrib["failures"]) == len(suite.findall("testcase/failure"))
        assert int(suite.attrib["skipped"]) == len(suite.findall("testcase/skipped"))
    return root


def cases(report: Report) -> dict[str, str]:
    """Name of each case, and how it went."""
    return {
        case.attrib["name"]: case[0].tag if len(case) else "passed"
        for case in parsed(report).iter("testcase")
    }


def test_path_cause_and_skipped_check_are_cases(faulty: Report) -> None:
    """A failing path, the error behind it, and a check that could not be run."""
    assert cases(faulty) == {
        "node1 to 10.0.0.9": "failure",
        "bridge-nf-forward-drop host/mybr0": "failure",
        "masquerade-missing": "skipped",
    }


def test_every_judged_path_is_a_case(faulty: Report, healthy: Report) -> None:
    """Without a question, the paths that were judged stand for themselves."""
    assert healthy.walk is not None
    assert faulty.walk is not None
    report = Report(
        verdict="faulty",
        question=None,
        paths=(
            PathResult(walk=healthy.walk),
            PathResult(walk=faulty.walk, causes=("bridge-nf-forward-drop",)),
        ),
    )
    outcomes = [case[0].tag if len(case) else "passed" for case in parsed(report).iter("testcase")]
    assert outcomes == ["passed", "failure"]


def test_warning_does_not_fail(faulty: Report) -> None:
    """A warning is told, and the case passes."""
    warning = replace(faulty.findings[0], severity=Severity.WARNING)
    report = replace(faulty, walk=None, findings=(warning,), skipped=())
    assert cases(report) == {"bridge-nf-forward-drop host/mybr0": "system-out"}


def test_what_was_asked_and_is_fine_is_listed_too(healthy: Report, faulty: Report) -> None:
    """A run shows what was judged: checks that passed, and what is harmless with its words."""
    context = replace(faulty.findings[0], role="context")
    report = replace(healthy, passed=("duplicate-ip", "duplicate-mac"), findings=(context,))
    assert cases(report) == {
        "node1 to 10.0.0.9": "passed",
        "bridge-nf-forward-drop host/mybr0": "system-out",
        "duplicate-ip": "passed",
        "duplicate-mac": "passed",
    }


def test_hostile_names_stay_text(hostile: Report) -> None:
    """No name ends an element or puts a character into the file that XML cannot hold."""
    names = [case.attrib["name"] for case in parsed(hostile).iter("testcase")]
    assert names[0] == 'tap-admin-down host/evil\\x1b[2J </testcase>"\\u202e\\x00'


def test_empty_report_has_a_case() -> None:
    """A report of nothing is one case, passed or skipped, never an empty suite."""
    assert list(cases(Report(verdict="healthy", question=None)).values()) == ["passed"]
    assert list(cases(Report(verdict="unknown", question=None)).values()) == ["skipped"]
