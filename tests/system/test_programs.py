"""Programs are run without a shell, and end in time and within bounds."""

from __future__ import annotations

import os
import time

import pytest

from kvmdiag.system.namespaces import entered
from kvmdiag.system.programs import (
    Completed,
    ProgramMissing,
    ProgramOverflow,
    ProgramTimeout,
    run,
)


def test_output_and_exit_code_are_given_back():
    """Both outputs apart, and the code that was returned."""
    done = run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert done == Completed(3, "out\n", "err\n")


def test_arguments_never_reach_a_shell():
    """What a shell would carry out is only text."""
    assert run(["echo", "$(id); `id` > /x"]).stdout == "$(id); `id` > /x\n"


def test_large_input_and_output_do_not_block_each_other():
    """More than a pipe holds goes in and comes out."""
    text = "0123456789" * 100_000
    assert run(["cat"], input=text).stdout == text


def test_a_program_may_leave_its_input_unread():
    """That is not an error."""
    assert run(["true"], input="x" * 1_000_000).returncode == 0


def test_messages_come_in_english():
    """Parsers rely on it, whatever the user's language is."""
    assert run(["sh", "-c", "echo $LC_ALL"]).stdout == "C\n"


def test_bytes_that_are_no_text_are_replaced():
    """Hostile output is no reason to fail."""
    assert run(["printf", r"a\377b"]).stdout == "a\N{REPLACEMENT CHARACTER}b"


def test_a_missing_program_is_named():
    """One line with its name."""
    with pytest.raises(ProgramMissing, match="kvmdiag-no-such-program"):
        run(["kvmdiag-no-such-program"])


def test_a_slow_program_is_killed_with_all_it_started(tmp_path):
    """Its children hold the pipes open; they go too."""
    note = tmp_path / "pid"
    start = time.monotonic()
    with pytest.raises(ProgramTimeout, match="sh did not end"):
        run(["sh", "-c", f"sleep 60 & echo $! > {note}; wait"], timeout=0.5)
    assert time.monotonic() - start < 10
    assert not _running(int(note.read_text()))


def test_children_left_behind_by_a_program_that_ended_are_killed_too(tmp_path):
    """The program is gone, its child still holds the output."""
    note = tmp_path / "pid"
    with pytest.raises(ProgramTimeout):
        run(["sh", "-c", f"sleep 60 & echo $! > {note}"], timeout=0.5)
    assert not _running(int(note.read_text()))


def test_a_program_that_prints_without_end_is_stopped():
    """Its output is not collected beyond the limit."""
    with pytest.raises(ProgramOverflow, match="yes printed more than 100000 bytes"):
        run(["yes"], limit=100_000)


def test_a_program_runs_in_the_namespace_of_the_thread(namespaces):
    """It sees the links of the namespace that was entered."""
    there = namespaces("there")
    there.ip("link add only0 type bridge")
    with entered(there.path):
        assert "only0" in run(["ip", "-br", "link"]).stdout
    assert "only0" not in run(["ip", "-br", "link"]).stdout


def _running(pid: int) -> bool:
    """Whether it still does anything: an orphan may be a zombie until it is collected."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat") as stat:
                state = stat.read().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return False
        if state == "Z":
            return False
        os.sched_yield()
    return True
