"""The log of a repair: what was done, how it ended, and how to undo it by hand."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from kvmdiag.errors import InputError
from kvmdiag.model.report import Plan
from kvmdiag.reports.escape import one_line


def default_path() -> Path:
    """A file of its own for each repair, under ``$XDG_STATE_HOME/kvmdiag`` (~/.local/state).

    Raises:
        InputError: the user has no home.

    """
    try:
        state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    except RuntimeError as error:
        raise InputError("nobody knows your home; name the log: --log FILE") from error
    now = datetime.now(tz=UTC).strftime("%Y%m%dT%H%M%S")
    return Path(state) / "kvmdiag" / f"fix-{now}-{os.getpid()}.log"


class FixLog:
    """Lines with their time, on the disk as soon as they are written."""

    def __init__(self, path: Path) -> None:
        """Begin the file.

        Raises:
            InputError: it cannot be written; then nothing must be changed either.

        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            self.note("kvmdiag fix")
        except OSError as error:
            why = error.strerror
            raise InputError(f"cannot write the log {path}: {why}; try --log FILE") from error

    def note(self, text: str) -> None:
        """One line, with the time."""
        now = datetime.now(tz=UTC).isoformat(timespec="seconds")
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{now} {one_line(text)}\n")

    def plan(self, ends: tuple[str, str], plan: Plan) -> None:
        """What is about to be done, before it is done, with its undo."""
        self.note(f"path: {ends[0]} to {ends[1]}")
        for number, step in enumerate(plan.steps, 1):
            self.note(f"step {number} ({step.where}, for {step.check}): {step.command}")
        for number, step in reversed(tuple(enumerate(plan.steps, 1))):
            self.note(f"to undo step {number}: {step.undo or 'nothing needs to be done'}")
