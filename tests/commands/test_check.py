"""``check``: which exit code follows from which report, and what is printed."""

from __future__ import annotations

import json
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from kvmdiag.commands import main as entry
from kvmdiag.commands.check import exit_code
from kvmdiag.model import codec
from kvmdiag.model.packet import Packet
from kvmdiag.model.question import Endpoint, Question
from kvmdiag.model.report import Finding, PathResult, Report, Role, Severity, Verdict
from kvmdiag.model.snapshot import Gap, Snapshot
from kvmdiag.model.stack import OWN_NETNS, Stack
from kvmdiag.model.trace import Hop, Outcome, Reason, Stage, Trace, Walk

QUESTION = Question(
    source=Endpoint(text="a", stack="a"), destination=Endpoint(text="10.0.0.9", address="10.0.0.9")
)


def walk(outcome: Outcome) -> Walk:
    """A walk of one hop with a reply that came back, if it got so far."""
    packet = Packet(src=IPv4Address("10.0.0.1"), dst=IPv4Address("10.0.0.9"))

    def trace(way: Any, end: Outcome) -> Trace:
        hop = Hop(
            direction=way, stack="a", link="e", stage=Stage.EGRESS, packet=packet, decision="d"
        )
        return Trace(direction=way, outcome=end, reason=Reason.ARRIVED, hops=(hop,))

    request = trace("request", outcome)
    reply = trace("reply", Outcome.DELIVERED) if request.arrived else None
    return Walk(question=QUESTION, request=request, reply=reply)


def finding(severity: Severity, role: Role) -> Finding:
    """A finding of which only severity and role matter."""
    return Finding(check="c", severity=severity, role=role, subject="s", summary="sum")


GOOD, BAD, DARK = walk(Outcome.LEFT), walk(Outcome.DROPPED), walk(Outcome.UNKNOWN)
ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO


@pytest.mark.parametrize(
    ("verdict", "way", "findings", "on_error", "on_warning"),
    [
        ("healthy", GOOD, [], 0, 0),
        ("healthy", None, [], 0, 0),
        ("healthy", GOOD, [(INFO, "latent")], 0, 0),
        ("healthy", GOOD, [(ERROR, "context")], 0, 0),
        ("healthy", GOOD, [(WARNING, "latent")], 0, 1),
        ("faulty", GOOD, [(ERROR, "latent")], 1, 1),
        ("faulty", BAD, [(ERROR, "cause")], 1, 1),
        ("faulty", BAD, [(WARNING, "cause")], 1, 1),
        ("faulty", BAD, [], 1, 1),
        ("faulty", None, [(ERROR, "cause")], 1, 1),
        ("unknown", DARK, [], 3, 3),
        ("unknown", None, [], 3, 3),
        ("unknown", DARK, [(WARNING, "latent")], 3, 1),
        ("faulty", DARK, [(ERROR, "cause")], 1, 1),
    ],
)
def test_exit_code(
    verdict: Verdict,
    way: Walk | None,
    findings: list[tuple[Severity, Role]],
    on_error: int,
    on_warning: int,
) -> None:
    """The contract's table: 0 healthy, 1 faulty or not reached, 3 inconclusive."""
    report = Report(
        verdict=verdict,
        question=QUESTION if way else None,
        walk=way,
        findings=tuple(finding(*f) for f in findings),
    )
    assert (exit_code(report, "error"), exit_code(report, "warning")) == (on_error, on_warning)


def test_a_broken_path_among_many_is_a_fault() -> None:
    """Without a question too, one path that does not work makes 1."""
    paths = (PathResult(walk=GOOD), PathResult(walk=BAD))
    assert exit_code(Report(verdict="faulty", question=None, paths=paths), "error") == 1


@pytest.fixture
def dark_file(tmp_path: Path) -> Path:
    """A snapshot of a host of which nothing could be read."""
    snapshot = Snapshot(
        tool="0",
        taken_at="2026-01-01T00:00:00Z",
        kernel="6.1",
        stacks=(Stack(name="host", kind="host", netns=OWN_NETNS),),
        gaps=(Gap(stack="host", fact="links", why="not allowed", help="run it as root"),),
    )
    path = tmp_path / "dark.snapshot"
    path.write_bytes(codec.save(snapshot))
    return path


def test_nothing_read_is_inconclusive(dark_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 3, and the output lists what was missing and how to provide it."""
    assert entry.main(["check", "host", "10.0.0.9", "--snapshot", str(dark_file)]) == 3
    assert "links of host: not allowed; run it as root" in capsys.readouterr().out


def test_output_goes_to_the_file(dark_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With -o nothing is printed, and the file holds the whole object."""
    target = dark_file.with_suffix(".json")
    words = ["check", "host", "10.0.0.9", "--format", "json", "-o", str(target)]
    assert entry.main(["--snapshot", str(dark_file), *words]) == 3
    assert capsys.readouterr().out == ""
    assert json.loads(target.read_text())["verdict"] == "unknown"


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        (["nosuch", "10.0.0.9"], "known: host"),
        (["nosuch"], "known: host"),
        (["host", "nosuch"], "known: host"),
    ],
)
def test_unknown_names_list_the_known(
    dark_file: Path, capsys: pytest.CaptureFixture[str], ends: list[str], told: str
) -> None:
    """One line on standard error, exit code 2."""
    assert entry.main(["check", *ends, "--snapshot", str(dark_file)]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [(["--port", "80"], "icmp has no ports"), (["--proto", "tcp"], "say --port N")],
)
def test_protocol_and_port_must_fit(
    dark_file: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    """A port without a protocol that has ports, or the reverse, is half a question."""
    assert entry.main(["--snapshot", str(dark_file), "check", "host", "10.0.0.9", *words]) == 2
    assert told in capsys.readouterr().err


def test_unwritable_output_is_one_line(dark_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2."""
    words = ["check", "--snapshot", str(dark_file), "-o", str(dark_file / "x")]
    assert entry.main(words) == 2
    assert "cannot write" in capsys.readouterr().err


def test_no_colours_without_a_terminal(dark_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Output into a pipe is plain text."""
    entry.main(["check", "--snapshot", str(dark_file)])
    assert "\x1b" not in capsys.readouterr().out
