"""``fix``: what it does around the plan. Snapshot, walk and probe are put in by the tests."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from kvmdiag.commands import fix, repair
from kvmdiag.commands import main as entry
from kvmdiag.commands.repair import Ran
from kvmdiag.commands.verify import Verified
from kvmdiag.model.question import Endpoint, Question
from kvmdiag.model.report import Finding, Plan, Report, Severity, Step
from kvmdiag.model.trace import Outcome

QUESTION = Question(
    source=Endpoint(text="a", stack="a"), destination=Endpoint(text="b", address="10.0.0.9")
)
STEPS = tuple(
    Step(check="c", where="host", command=name, undo=f"un{name}", persist=f"keep {name}")
    for name in ("one", "two")
)


def faulty(*, works: bool | None = True) -> Report:
    """A path that fails and a plan for it."""
    plan = Plan(steps=STEPS, outcome_after=Outcome.LEFT, works=works)
    return Report(verdict="faulty", question=QUESTION, plan=plan)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """The world around the command: what was found, what is run, how the verification ends."""
    world = SimpleNamespace(
        report=faulty(), ran=[], failure=None, unprobed=None, against=None, breaks=""
    )

    def run_program(argv: list[str]) -> Ran:
        world.ran.append(argv[0])
        return Ran(int(argv[0] == world.breaks), "said why")

    def verify(*_: Any) -> Verified:
        if isinstance(world.failure, BaseException):
            raise world.failure
        return Verified(failure=world.failure, unprobed=world.unprobed, against=world.against)

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    world.state = tmp_path
    monkeypatch.setattr(fix, "facts", lambda _options: SimpleNamespace(stacks=()))
    monkeypatch.setattr(fix, "judge", lambda *_: world.report)
    monkeypatch.setattr(fix, "verify", verify)
    monkeypatch.setattr(repair, "run_program", run_program)
    return world


def test_cured(stage: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 0; it says what was done, and how to undo and to keep each step."""
    assert entry.main(["fix", "a", "b", "--yes"]) == 0
    assert stage.ran == ["one", "two"]
    out = capsys.readouterr().out
    assert "Cured: a reaches b; a real packet gets through." in out
    assert out.index("to undo: untwo") < out.index("to undo: unone")
    assert "to keep: keep one" in out


def test_what_no_packet_has_proved_is_not_called_cured(
    stage: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with ``check``, a path that works in the simulation gives 0; who says so is told."""
    stage.unprobed = "a lies outside"
    assert entry.main(["fix", "a", "b", "--yes"]) == 0
    out = capsys.readouterr().out
    assert (
        "The simulation now says that a reaches b; no packet could be sent: a lies outside" in out
    )
    assert "Cured" not in out
    (log,) = (stage.state / "kvmdiag").iterdir()
    assert "no packet could be sent: a lies outside" in log.read_text()
    assert "Cured" not in log.read_text()


def test_what_the_simulation_has_against_a_cure_is_told(
    stage: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    """The kernel is right, and that they differ is news."""
    stage.against = "it is dropped"
    assert entry.main(["fix", "a", "b", "--yes"]) == 0
    told = "gets through, though the simulation says otherwise: it is dropped"
    assert told in capsys.readouterr().out


@pytest.mark.parametrize("works", [None, False])
def test_only_a_plan_that_may_work_is_carried_out(
    stage: SimpleNamespace, works: bool | None
) -> None:
    """One that the simulation refutes is not; one it could not judge is tried and verified."""
    stage.report = faulty(works=works)
    assert entry.main(["fix", "a", "b", "--yes"]) == (1 if works is False else 0)
    assert stage.ran == ([] if works is False else ["one", "two"])


def test_rolled_back_when_it_does_not_help(
    stage: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 1, and the machine is as it was."""
    stage.failure = "a real packet got no answer"
    assert entry.main(["fix", "a", "b", "--yes"]) == 1
    assert stage.ran == ["one", "two", "untwo", "unone"]
    out = capsys.readouterr().out
    assert "Not cured: a real packet got no answer" in out
    assert "Everything that was done is undone." in out


def test_rolled_back_when_a_step_fails(
    stage: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 1; the error of the program is told."""
    stage.breaks = "two"
    assert entry.main(["fix", "a", "b", "--yes"]) == 1
    assert stage.ran == ["one", "two", "unone"]
    assert "two failed with exit code 1: said why" in capsys.readouterr().out


def test_what_has_nothing_to_undo_is_told_as_it_is(
    stage: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    """It stays done, and is not said to be undone."""
    lasting = msgspec.structs.replace(STEPS[0], undo="")
    stage.report = msgspec.structs.replace(
        faulty(), plan=Plan(steps=(lasting, STEPS[1]), outcome_after=Outcome.LEFT, works=True)
    )
    stage.failure = "no answer"
    assert entry.main(["fix", "a", "b", "--yes"]) == 1
    assert stage.ran == ["one", "two", "untwo"]
    out = capsys.readouterr().out
    assert "This was done, and there is nothing to undo: one" in out
    assert "Everything else that was done is undone." in out


def test_a_cause_that_no_command_cures_comes_with_what_helps(
    stage: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is run."""
    cause = Finding(
        check="dnsmasq-port-conflict",
        severity=Severity.ERROR,
        role="cause",
        subject="host/udp:53",
        summary="it is taken",
    )
    stage.report = Report(verdict="faulty", question=QUESTION, findings=(cause,))
    assert entry.main(["fix", "a", "b", "--yes"]) == 1
    assert stage.ran == []
    assert "What helps against dnsmasq-port-conflict: by hand" in capsys.readouterr().out


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (ValueError(), 2)])
def test_rolled_back_when_interrupted(
    stage: SimpleNamespace, error: BaseException, code: int
) -> None:
    """Nothing is left half done, whatever happens."""
    stage.failure = error
    assert entry.main(["fix", "a", "b", "--yes"]) == code
    assert stage.ran == ["one", "two", "untwo", "unone"]


def test_dry_run_only_shows(stage: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    """The path still fails, so the exit code is 1."""
    assert entry.main(["fix", "a", "b", "--dry-run"]) == 1
    assert stage.ran == []
    assert "  2. two" in capsys.readouterr().out


def test_without_a_terminal_somebody_must_have_said_yes(
    stage: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, and nothing is done."""
    assert entry.main(["fix", "a", "b"]) == 2
    assert stage.ran == []
    assert "--yes" in capsys.readouterr().err


@pytest.mark.parametrize(("answer", "code", "ran"), [("n", 1, []), ("y", 0, ["one", "two"])])
def test_asks_on_a_terminal(
    stage: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, ran: list[str]
) -> None:
    """And does as it is told."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda *_args, **_named: answer == "y")
    assert entry.main(["fix", "a", "b"]) == code
    assert stage.ran == ran


@pytest.mark.parametrize("done", [True, False])
def test_what_is_to_be_typed_inside_a_guest_is_asked_for_on_a_terminal(
    stage: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    done: bool,
) -> None:
    """It is never run here; the verification follows, or what was done before is undone."""
    host, guest = STEPS[0], msgspec.structs.replace(STEPS[1], where="inside web")
    stage.report = msgspec.structs.replace(
        faulty(), plan=Plan(steps=(host, guest), outcome_after=Outcome.LEFT, works=True)
    )
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda text, **_: done or text.startswith("Carry"))
    assert entry.main(["fix", "a", "b"]) == (0 if done else 1)
    out = capsys.readouterr().out
    assert "To be typed inside web: two" in out
    assert ("Cured" in out) is done
    assert stage.ran == (["one"] if done else ["one", "unone"])


def test_practice_repairs_do_not_leave_it(
    stage: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under --lab a command for the machine itself is refused."""
    assert entry.main(["--lab", "cluster", "fix", "a", "b", "--yes"]) == 2
    assert stage.ran == []
    assert "practice net" in capsys.readouterr().err


def test_unknown_is_no_reason_to_change_anything(stage: SimpleNamespace) -> None:
    """Exit 3."""
    stage.report = Report(verdict="unknown", question=QUESTION, plan=faulty().plan)
    assert entry.main(["fix", "a", "b", "--yes"]) == 3
    assert stage.ran == []


def test_what_is_done_is_logged_with_its_undo(stage: SimpleNamespace) -> None:
    """Before anything is changed the log says how to go back, and in the end how it went."""
    assert entry.main(["fix", "a", "b", "--yes"]) == 0
    (log,) = (stage.state / "kvmdiag").iterdir()
    text = log.read_text()
    assert text.index("to undo step 2: untwo") < text.index("to undo step 1: unone")
    assert text.index("to undo step 1") < text.index("done 1/2: one")
    assert text.rstrip().endswith("Cured: a reaches b; a real packet gets through.")
    assert log.stat().st_mode & 0o77 == 0


def test_a_rollback_is_logged(stage: SimpleNamespace, tmp_path: Path) -> None:
    """At the place that was asked for."""
    stage.failure = "no answer"
    assert entry.main(["fix", "a", "b", "--yes", "--log", str(tmp_path / "my.log")]) == 1
    text = (tmp_path / "my.log").read_text()
    assert "Not cured: no answer" in text
    assert "undone: unone" in text


def test_without_a_log_nothing_is_changed(stage: SimpleNamespace) -> None:
    """Exit 2 before the first step."""
    assert entry.main(["fix", "a", "b", "--yes", "--log", "/proc/none/x"]) == 2
    assert stage.ran == []


@pytest.mark.parametrize("home", ["/proc", None])
def test_a_home_that_takes_no_log(
    stage: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    home: str | None,
) -> None:
    """Read-only, or nobody knows it: nothing is changed, and the way out is named."""

    def nobody_knows() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", nobody_knows if home is None else lambda: Path(home))
    assert entry.main(["fix", "a", "b", "--yes"]) == 2
    assert stage.ran == []
    assert "--log FILE" in capsys.readouterr().err
