"""Every check explains itself."""

import json

import pytest
from typer.testing import CliRunner

from kvmdiag.commands.explain import app
from kvmdiag.diagnose.check import load_checks
from kvmdiag.errors import UsageError

FIRST = {
    "bridge-nf-forward-drop",
    "guest-no-default-route",
    "guest-rp-filter-multihomed",
    "ip-forward-off",
    "masquerade-missing",
    "net-restart-orphan-taps",
    "per-iface-forwarding-off",
    "tap-admin-down",
}


def test_the_checks_are_found_without_a_list():
    """One file, one check, named as the file."""
    assert {check.id for check in load_checks()} >= FIRST


@pytest.mark.parametrize("check", load_checks(), ids=lambda check: check.id)
def test_every_section_is_there(check):
    """The docstring has all headings, and the summary is one sentence without a full stop."""
    assert all(text for _, text in check.explanation.sections)
    assert not check.explanation.summary.endswith(".")
    assert check.needs


def test_explain_lists_all_checks_as_json():
    """Id, severity and every section."""
    result = CliRunner().invoke(app, ["--format", "json"], standalone_mode=False)
    listed = json.loads(result.stdout)["checks"]
    assert {entry["check"] for entry in listed} >= FIRST
    assert set(listed[0]) >= {"summary", "symptom", "harmless_when", "sources", "needs"}


def test_explain_shows_one_check():
    """With its headings, for people."""
    result = CliRunner().invoke(app, ["ip-forward-off"], standalone_mode=False)
    assert "ip-forward-off (error)" in result.stdout
    assert "Harmless when" in result.stdout


def test_an_unknown_check_gets_a_hint():
    """One line, with what it could have been."""
    result = CliRunner().invoke(app, ["ip-forwad-off"], standalone_mode=False)
    assert isinstance(result.exception, UsageError)
    assert "did you mean ip-forward-off" in str(result.exception)
