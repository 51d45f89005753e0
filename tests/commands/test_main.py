"""The console entry: exit codes, one line per error, and nothing loaded without need."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from kvmdiag.commands import main as entry
from kvmdiag.errors import InputError, NotReadableError

HEAVY = ("scapy", "libvirt", "networkx", "pyroute2", "rich", "jinja2")


def run(*arguments: str) -> tuple[int, str, str]:
    """A command line of its own: exit code, standard output, standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "kvmdiag", *arguments], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["nosuch"], ["check", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    """Help comes at once, also on a machine where a library is broken."""
    program = (
        "import sys; from kvmdiag.commands.main import main; "
        f"main({arguments!r}); print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_lists_every_command() -> None:
    """And there is a module for each."""
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    for name in entry.COMMANDS:
        assert f"  {name} " in out
        assert (Path(entry.__file__).parent / f"{name}.py").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nosuch"], "no command 'nosuch'"),
        (["check", "--nosuch"], "--nosuch"),
        (["--nosuch"], "--nosuch"),
        (["check", "--format", "svg"], "'svg' is not one of text, json, junit"),
        (["graph", "--format", "png"], "'png' is not one of text, dot, mermaid, svg, json"),
        (["check", "--proto", "sctp", "a", "b"], "'sctp' is not one of icmp, tcp, udp"),
        (["check", "--port", "0", "a", "b"], "--port"),
        (["--port", "80", "graph"], "graph does not take --port"),
        (["fix", "a"], "DST"),
        (["check", "--snapshot", "/nonexistent/file"], "cannot read /nonexistent/file"),
        (["check", "--snapshot", "/"], "cannot read /"),
        (["--snapshot", "/dev/null", "check"], "/dev/null: "),
        (["fix", "a", "b", "--snapshot", "/dev/null"], "a file cannot be repaired"),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(arguments: list[str], told: str) -> None:
    """What cannot be done is said in one line on standard error."""
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("kvmdiag: ")
    assert told in err
    assert err.count("\n") == 1


class Probe:
    """A command that gets what it is told to, for :func:`entry.main` to cope with."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.app = typer.Typer()
        self.app.command()(self.command)
        self.error = error

    def command(self) -> int:
        """Ends as it was told to."""
        if self.error is not None:
            raise self.error
        return 3


@pytest.fixture
def as_check(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Lets a test put a :class:`Probe` in the place of ``check``."""
    return monkeypatch


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (None, 3, ""),
        (InputError("bad\nfile\x1b[2J"), 2, "kvmdiag: bad file\\x1b[2J\n"),
        (NotReadableError("no rules"), 3, "kvmdiag: no rules\n"),
        (KeyboardInterrupt(), 130, ""),
        (typer.Exit(1), 1, ""),
        (
            ValueError("odd"),
            2,
            "kvmdiag: ValueError: odd; this is a bug in kvmdiag; "
            "run with KVMDIAG_DEBUG=1 for details\n",
        ),
    ],
)
def test_every_end_has_its_code_and_line(
    as_check: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException | None,
    code: int,
    line: str,
) -> None:
    """Results, errors for the user, interruption and bugs; never a traceback."""
    as_check.delenv("KVMDIAG_DEBUG", raising=False)
    as_check.setattr(entry, "import_module", lambda _name: Probe(error))
    assert entry.main(["check"]) == code
    assert capsys.readouterr().err == line


def test_debug_shows_the_traceback(
    as_check: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For those who want to mend kvmdiag itself."""
    as_check.setenv("KVMDIAG_DEBUG", "1")
    as_check.setattr(entry, "import_module", lambda _name: Probe(ValueError("odd")))
    assert entry.main(["check"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_closed_pipe_is_quiet() -> None:
    """``kvmdiag --help | head -0`` ends without a word."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "kvmdiag", "--help"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert done.stderr == ""
    assert done.returncode == 141


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("explain >&-", 0, ""),
        ("explain --format json >&- <&-", 0, ""),
        ("explain nonesuch 2>&-", 2, ""),
        ("explain > /dev/full", 2, "kvmdiag: cannot write the output: No space left on device\n"),
        ("explain | true; exit ${PIPESTATUS[0]}", 141, ""),
    ],
)
def test_where_nothing_can_be_written(line: str, code: int, said: str) -> None:
    """A stream that is closed, a full disk, a reader that has gone: the code says what counts."""
    command = ["bash", "-c", f"{shlex.quote(sys.executable)} -m kvmdiag {line}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (code, said)


@pytest.mark.parametrize("columns", ["0", "x", "-1"])
def test_a_width_that_makes_no_sense_hides_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: str
) -> None:
    """Serial consoles say that they have no columns at all."""
    monkeypatch.setenv("COLUMNS", columns)
    assert entry.main(["explain", "ip-forward-off"]) == 0
    assert "has forwarding switched off" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["check"], ["check", "node1", "10.0.0.9"], ["graph"]])
def test_without_root_one_line_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    """Exit code 3: too little can be read."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert entry.main(command) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "run as root: sudo kvmdiag" in err
