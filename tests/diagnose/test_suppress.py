"""Ignores, severities and the baseline: what they take out of a report, and what they tell."""

import json
from datetime import date

import msgspec
import pytest

from kvmdiag.diagnose.suppress import decide, only_new, parse_decisions
from kvmdiag.errors import InputError
from kvmdiag.model.report import Finding, Plan, Report, Severity, Step
from kvmdiag.model.trace import Outcome
from kvmdiag.reports import json as report_json

KNOWN = frozenset({"guest-firewall", "duplicate-mac"})
TODAY = date(2026, 6, 1)


def finding(check: str, subject: str, severity: Severity = Severity.ERROR) -> Finding:
    """A fault found without a path."""
    return Finding(check=check, severity=severity, role="latent", subject=subject, summary="bad")


REPORT = Report(
    verdict="faulty",
    question=None,
    findings=(finding("guest-firewall", "vm1"), finding("duplicate-mac", "vm2/eth0")),
)


def decided(text: str) -> Report:
    """The report under these decisions."""
    return decide(REPORT, parse_decisions(text, KNOWN), TODAY)


def ignore(check: str, more: str = "") -> str:
    """One ignore."""
    return f'[[ignore]]\ncheck = "{check}"\nreason = "known"\n{more}\n'


def test_nothing_decided_changes_nothing():
    """An empty file is a file."""
    assert decided("") == REPORT


def test_an_ignored_finding_is_gone_and_told():
    """The other error still counts."""
    report = decided(ignore("guest-firewall", 'subject = "vm*"'))
    assert [f.check for f in report.findings] == ["duplicate-mac"]
    assert report.verdict == "faulty"
    assert report.notes == ("ignored: guest-firewall on vm1",)


def test_all_ignored_is_healthy():
    """Nothing is left that counts."""
    assert decided(ignore("guest-firewall") + ignore("duplicate-mac")).verdict == "healthy"


def test_a_plan_goes_with_the_last_of_the_faults_it_is_against():
    """With one of two left it stays whole: half a plan cures nothing."""
    steps = tuple(
        Step(check=check, where="host", command="c", undo="u", persist="")
        for check in ("guest-firewall", "duplicate-mac")
    )
    plan = Plan(steps=steps, outcome_after=Outcome.LEFT, works=True)
    report = msgspec.structs.replace(REPORT, plan=plan)
    one, both = ignore("guest-firewall"), ignore("guest-firewall") + ignore("duplicate-mac")
    assert decide(report, parse_decisions(one, KNOWN), TODAY).plan == plan
    assert decide(report, parse_decisions(both, KNOWN), TODAY).plan is None


def test_an_expired_ignore_counts_no_more():
    """It is told, so that somebody looks at it."""
    report = decided(ignore("guest-firewall", "expires = 2026-05-31"))
    assert len(report.findings) == 2
    assert report.notes[0].startswith("expired on 2026-05-31")
    assert len(decided(ignore("guest-firewall", "expires = 2026-06-01")).findings) == 1


def test_an_unused_ignore_is_told():
    """Its subject is nobody's here."""
    assert decided(ignore("guest-firewall", 'subject = "db*"')).notes == (
        "matches nothing: ignore of guest-firewall on db* (known)",
    )


def test_other_severities():
    """A warning does not make a verdict faulty."""
    text = '[severities]\nguest-firewall = "warning"\nduplicate-mac = "info"\n'
    report = decided(text)
    assert [f.severity for f in report.findings] == [Severity.WARNING, Severity.INFO]
    assert report.verdict == "healthy"


@pytest.mark.parametrize(
    "text",
    [
        "ignore = 3",
        ignore("no-such-check"),
        '[[ignore]]\ncheck = "guest-firewall"\n',
        '[[ignore]]\ncheck = "guest-firewall"\nreason = " "\n',
        ignore("guest-firewall", "until = 2026-01-01"),
        'fail-on = "sometimes"',
        "= nonsense",
    ],
)
def test_what_makes_no_sense_is_refused(text):
    """A misspelt ignore must not look like one that works."""
    with pytest.raises(InputError):
        parse_decisions(text, KNOWN)


def test_a_baseline_leaves_only_what_is_new():
    """An old report is told apart by check and subject."""
    old = Report(verdict="faulty", question=None, findings=(finding("guest-firewall", "vm1"),))
    report = only_new(REPORT, report_json.render(old).encode())
    assert [f.check for f in report.findings] == ["duplicate-mac"]
    assert only_new(REPORT, report_json.render(REPORT).encode()).verdict == "healthy"


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"schema": "x", "findings": []})])
def test_a_baseline_that_is_none_is_refused(text):
    """One line, exit 2."""
    with pytest.raises(InputError):
        only_new(REPORT, text.encode())
