"""Options may stand before the command, after it, before or after its arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from kvmdiag.commands import main as entry
from kvmdiag.commands.options import PATH, Options, takes
from kvmdiag.errors import UsageError


class Recorder:
    """A command that keeps what it was given."""

    def __init__(self) -> None:
        self.app = typer.Typer()
        self.given: list[tuple[str | None, Options]] = []

        @self.app.command()
        @takes(PATH, formats=("text", "json"))
        def check(
            source: Annotated[str | None, typer.Argument()] = None, *, options: Options
        ) -> None:
            self.given.append((source, options))


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Stands in the place of every command."""
    made = Recorder()
    monkeypatch.setattr(entry, "import_module", lambda _name: made)
    return made


@pytest.mark.parametrize(
    "line",
    [
        "--format json --port 80 --exclude-netns a* -v check node1",
        "--format json check --port 80 --exclude-netns a* -v node1",
        "check node1 --format json --port 80 --exclude-netns a* -v",
        "check --port=80 node1 --exclude-netns=a* -v --format=json",
    ],
)
def test_place_makes_no_difference(recorder: Recorder, line: str) -> None:
    """The same words in another order mean the same."""
    assert entry.main(line.split()) == 0
    expected = Options(format="json", port=80, exclude_netns=["a*"], verbose=1)
    assert recorder.given == [("node1", expected)]


def test_what_stands_after_wins(recorder: Recorder) -> None:
    """The word next to the command is the more particular one."""
    assert entry.main(["--port", "80", "check", "--port", "443"]) == 0
    assert recorder.given[0][1].port == 443


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        ([], "format", "text"),
        (["--lab", "cluster"], "lab", "cluster"),
        (["--snapshot", "f"], "snapshot", Path("f")),
        (["--output", "f"], "output", Path("f")),
        (["-4"], "ipv4", True),
        (["-6"], "ipv6", True),
        (["-q"], "quiet", True),
        (["-vv"], "verbose", 2),
        (["--no-color"], "no_color", True),
        (["--fail-on", "warning"], "fail_on", "warning"),
        (["--timeout", "0.5"], "timeout", 0.5),
        (["--connect", "test:///default"], "connect", "test:///default"),
        (["--guest-access", "none"], "guest_access", "none"),
        (["--proto", "tcp"], "proto", "tcp"),
    ],
)
def test_each_option(recorder: Recorder, words: list[str], field: str, value: Any) -> None:
    """Before the command and after it."""
    assert entry.main([*words, "check"]) == entry.main(["check", *words]) == 0
    assert [getattr(options, field) for _, options in recorder.given] == [value, value]


@pytest.mark.parametrize(
    ("four", "six", "version"), [(False, False, None), (True, False, 4), (False, True, 6)]
)
def test_version(four: bool, six: bool, version: int | None) -> None:
    """-4, -6, or whatever fits."""
    assert Options(ipv4=four, ipv6=six).version == version


def test_a_practice_network_and_a_file_exclude_each_other() -> None:
    """Neither wins in silence."""
    with pytest.raises(UsageError, match="--lab and --snapshot"):
        Options(lab="cluster", snapshot=Path("x"))


def test_both_versions_exclude_each_other() -> None:
    """Asking for only the one and only the other is asking for nothing."""
    with pytest.raises(UsageError, match="-4 and -6"):
        _ = Options(ipv4=True, ipv6=True).version
