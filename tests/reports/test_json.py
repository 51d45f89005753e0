"""What scripts read: the contract, key by key."""

from __future__ import annotations

import json
from typing import Any, Literal

import msgspec
import pytest
from msgspec.structs import replace

from kvmdiag.model.report import Report
from kvmdiag.reports import json as json_report


class _Exact(msgspec.Struct, forbid_unknown_fields=True):
    """Every key must be there, and no other."""


class Question(_Exact, rename={"from_": "from"}):
    """``question``."""

    from_: str
    to: str
    proto: Literal["icmp", "tcp", "udp"]
    port: int | None


class Evidence(_Exact):
    """One of ``evidence``."""

    fact: str
    origin: str


class Step(_Exact):
    """STEP."""

    check: str
    where: str
    command: str
    undo: str
    persist: str
    disruptive: bool


class Alternative(_Exact):
    """Another way."""

    steps: list[Step]
    side_effects: list[str]


class Finding(_Exact):
    """One of ``findings``."""

    check: str
    severity: Literal["error", "warning", "info"]
    role: Literal["cause", "latent", "context"]
    subject: str
    summary: str
    evidence: list[Evidence]
    fix: list[Step]
    verified: bool | None
    alternatives: list[Alternative]
    proof: str


class Plan(msgspec.Struct):
    """``plan``; more keys may follow."""

    steps: list[Step]
    outcome_after: str


class Skipped(_Exact):
    """One of ``skipped``."""

    check: str
    needs: str
    why: str


class Contract(msgspec.Struct):
    """The whole object; more keys may follow."""

    schema: Literal["kvmdiag.report/1"]
    verdict: Literal["healthy", "faulty", "unknown"]
    question: Question | None
    findings: list[Finding]
    walk: dict[str, Any] | None
    plan: Plan | None
    skipped: list[Skipped]


def test_faulty_report_keeps_the_contract(faulty: Report) -> None:
    """All keys, all values in their sets, and the asked path in the user's words."""
    read = msgspec.json.decode(json_report.render(faulty), type=Contract)
    assert read.question == Question(from_="node1", to="10.0.0.9", proto="icmp", port=None)
    assert read.findings[0].role == "cause"
    assert read.findings[0].fix[0].command == "iptables -I FORWARD -i mybr0 -o mybr0 -j ACCEPT"
    assert read.plan is not None
    assert read.plan.outcome_after == "left"
    assert read.walk is not None
    assert read.walk["schema"] == "kvmdiag.trace/1"
    assert read.walk["outcome"] == "dropped"


def test_what_does_not_apply_is_null() -> None:
    """A report without question, walk and plan has those keys all the same."""
    read = json.loads(json_report.render(Report(verdict="healthy", question=None)))
    assert {key: read[key] for key in ("question", "walk", "plan")} == {
        "question": None,
        "walk": None,
        "plan": None,
    }
    assert read["findings"] == read["skipped"] == []


@pytest.mark.parametrize("proto", ["icmp", "icmpv6"])
def test_icmp_is_called_as_it_is_asked_for(faulty: Report, proto: Literal["icmp"]) -> None:
    """``--proto`` knows icmp only, and so does the answer."""
    assert faulty.question is not None
    report = replace(faulty, question=replace(faulty.question, proto=proto))
    assert json_report.report_object(report)["question"]["proto"] == "icmp"


def test_names_survive_unchanged_and_harmless(hostile: Report) -> None:
    """The text is plain ASCII without control characters; decoded, it is what was read."""
    text = json_report.render(hostile)
    assert text.isascii()
    assert not set(text) & set("\x1b\x00")
    assert json.loads(text)["question"]["from"] == hostile.question.source.text  # type: ignore[union-attr]
