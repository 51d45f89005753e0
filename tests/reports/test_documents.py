"""Reports for tickets, pages and code scanning: all is told, and nothing that others chose acts."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from msgspec.structs import replace

from kvmdiag.model.report import Evidence, Finding, PathResult, Report, Severity
from kvmdiag.reports import html, markdown, sarif


class Page(HTMLParser):
    """Tags and text of a page, and whether each tag is closed in order."""

    VOID = frozenset({"meta"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note it."""
        del attrs
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the last one."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep it."""
        self.text += data


def everything(faulty: Report) -> Report:
    """The faulty report with its path listed and a check that passed."""
    assert faulty.walk is not None
    path = PathResult(walk=faulty.walk, causes=("bridge-nf-forward-drop",))
    return replace(faulty, paths=(path,), passed=("duplicate-ip",), notes=("expired: x",))


@pytest.mark.parametrize("format_", [html, markdown])
def test_the_answer_the_fault_its_evidence_and_the_repair_are_there(format_, faulty):
    """What a person must be told, whatever the shape."""
    page = format_.render(everything(faulty))
    text = Page(page).text if format_ is html else page.replace("\\", "")
    for told in (
        "node1 cannot reach 10.0.0.9",
        "bridge-nf-forward-drop",
        "net.bridge.bridge-nf-call-iptables = 1",
        "iptables -I FORWARD -i mybr0 -o mybr0 -j ACCEPT",
        "iptables -D FORWARD 1",
        "/etc/sysctl.d/90-kvmdiag.conf",
        "masquerade-missing needs networks",
        "expired: x",
    ):
        assert told in text, told


def test_the_page_loads_and_runs_nothing(hostile: Report) -> None:
    """No name becomes an element; the browser is asked to fetch nothing."""
    finding = replace(hostile.findings[0], summary="<script>alert(1)</script><img src=x>")
    page = html.render(replace(hostile, findings=(finding,)))
    parsed = Page(page)
    assert not {"script", "img", "link", "iframe"} & set(parsed.tags)
    assert "<script>alert(1)</script>" in parsed.text
    assert "default-src 'none'" in page
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", page)


def test_markdown_that_others_wrote_formats_nothing() -> None:
    """Neither a link nor a heading nor the end of a code span."""
    finding = Finding(
        check="tap-admin-down",
        severity=Severity.ERROR,
        role="cause",
        subject="host/[x](http://evil)",
        summary="# big\n- `**bold**` <b>",
        evidence=(Evidence("a | b", "`c`"),),
    )
    text = markdown.render(Report(verdict="faulty", question=None, findings=(finding,)))
    assert "[x](" not in text.replace("\\[", "").replace("\\]", "")
    assert "\\# big - \\`\\*\\*bold\\*\\*\\` \\<b\\>" in text
    assert not [line for line in text.splitlines() if line.startswith("# ")]


def test_code_outlasts_the_backticks_in_it() -> None:
    """CommonMark: a span ends at as many backticks as it began with."""
    from kvmdiag.reports.escape import markdown_code

    assert markdown_code("ls `x` ``y``") == "``` ls `x` ``y`` ```"
    assert markdown_code("plain") == "`plain`"


def test_sarif_names_rules_places_and_fates(faulty: Report, healthy: Report) -> None:
    """As sections 3.19 to 3.27 of the standard want it; a path that passes is a result too."""
    assert healthy.walk is not None
    report = everything(faulty)
    report = replace(report, paths=(*report.paths, PathResult(walk=healthy.walk)))
    document = json.loads(sarif.render(report))
    assert document["version"] == "2.1.0"
    (run,) = document["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["bridge-nf-forward-drop", "path"]
    assert "FORWARD" in rules[0]["help"]["text"]
    fates = [(r["ruleId"], r["kind"], r["level"]) for r in run["results"]]
    assert fates == [
        ("bridge-nf-forward-drop", "fail", "error"),
        ("path", "fail", "error"),
        ("path", "pass", "none"),
    ]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["message"]["text"]
    (place,) = run["results"][0]["locations"][0]["logicalLocations"]
    assert place["fullyQualifiedName"] == "host/mybr0"
    (notice, *_) = run["invocations"][0]["toolExecutionNotifications"]
    assert "masquerade-missing" in notice["message"]["text"]


def test_sarif_of_what_is_harmless_fails_nothing(faulty: Report, hostile: Report) -> None:
    """Context is informational; a fingerprint tells subjects apart and stays from run to run."""
    context = replace(faulty.findings[0], role="context")
    other = replace(context, subject="host/br1")
    once = json.loads(sarif.render(replace(faulty, findings=(context, other))))
    again = json.loads(sarif.render(replace(faulty, findings=(context,))))
    first, second = once["runs"][0]["results"]
    assert (first["kind"], first["level"]) == ("informational", "none")
    assert first["partialFingerprints"] != second["partialFingerprints"]
    assert first["partialFingerprints"] == again["runs"][0]["results"][0]["partialFingerprints"]
    assert sarif.render(hostile).isascii()
