"""Carrying out a plan: step by step, and back again.

What is run is exactly what was shown, split as a shell would split it; no shell sees it.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field

from kvmdiag.errors import KvmdiagError, UsageError
from kvmdiag.model.report import Plan, Step
from kvmdiag.reports.escape import one_line
from kvmdiag.system.interrupts import deferred

Runner = Callable[[list[str]], "Ran"]
Tell = Callable[[str], None]


class StepFailed(KvmdiagError):  # noqa: N818 - says what happened, as a sentence
    """A step's command did not succeed; the exit code is that of a path that does not work."""

    exit_code = 1


@dataclass(frozen=True)
class Ran:
    """How a command ended: its exit code and what it said on standard error."""

    returncode: int
    stderr: str


def run_program(argv: list[str]) -> Ran:
    """Run a command on this machine."""
    from kvmdiag.system import programs

    done = programs.run(argv, timeout=30)
    return Ran(done.returncode, done.stderr)


@dataclass
class Repair:
    """The steps of a plan that have been carried out, the last one last.

    ``by_hand`` has somebody carry out a step inside a guest and comes back when that is done.
    """

    runner: Runner
    tell: Tell
    done: list[Step] = field(default_factory=list)
    by_hand: Callable[[Step], None] | None = None

    def carry_out(self, plan: Plan) -> None:
        """Run every step in order.

        A signal that comes while a step runs takes effect after it: each step is either done,
        and can be undone, or was not begun.

        Raises:
            StepFailed: a command failed; the steps before it remain done.

        """
        for number, step in enumerate(plan.steps, 1):
            inside = self.by_hand is not None and is_inside(step)
            if inside and self.by_hand is not None:
                self.by_hand(step)
            with deferred():
                if not inside:
                    self._run(step.command, step.undo)
                self.done.append(step)
                where = f" {step.where}" if inside else ""
                self.tell(f"done {number}/{len(plan.steps)}{where}: {step.command}")

    def roll_back(self) -> tuple[Step, ...]:
        """Undo what was done, the last step first; gives the steps that could not be undone.

        Nothing keeps it from going on to the end, be it a signal, a step that cannot be
        undone, or that nobody listens any more. What has nothing to undo is left as it is.
        """
        stuck = []
        with deferred():
            while self.done:
                step = self.done.pop()
                if not step.undo:
                    continue
                try:
                    if is_inside(step):
                        raise StepFailed(f"it is {step.where}: {step.undo}")
                    self._run(step.undo)
                    said = f"undone: {step.undo}"
                except KvmdiagError as error:
                    stuck.append(step)
                    said = f"could not be undone: {error}"
                # A closed terminal (EIO), a reader that has gone (EPIPE), a full disk.
                with suppress(OSError, ValueError):
                    self.tell(said)
        return tuple(stuck)

    def _run(self, command: str, undo: str = "") -> None:
        try:
            ran = self.runner(shlex.split(command))
        except KvmdiagError as error:
            raise StepFailed(f"{error}{_in_part(undo)}") from None
        if ran.returncode != 0:
            said = one_line(ran.stderr) or "it said nothing"
            failed = f"{command} failed with exit code {ran.returncode}: {said}"
            raise StepFailed(failed + _in_part(undo))


def _in_part(undo: str) -> str:
    """What is to be said of a step that failed: it may have done half of its work."""
    return f"; if that was done in part, this undoes it: {undo}" if undo else ""


def is_inside(step: Step) -> bool:
    """Whether a step is for a guest, which its owner alone can enter."""
    return step.where.startswith("inside ")


def refuse_unfit(plan: Plan, allowed: Collection[str] | None, *, by_hand: bool = False) -> None:
    """Refuse a plan that cannot be carried out from here, before anything is changed.

    ``allowed`` are the names of the namespaces that may be touched; ``None`` is no limit.
    ``by_hand`` tells that there is somebody to do what is to be done inside guests.

    Raises:
        UsageError: a step is for the inside of a guest, or leaves the practice network.

    """
    inside = [step for step in plan.steps if is_inside(step)]
    if inside and not by_hand:
        places = ", ".join(dict.fromkeys(step.where for step in inside))
        raise UsageError(
            f"{len(inside)} of {len(plan.steps)} steps must be typed {places}, where kvmdiag "
            f"cannot go; carry them out there: {'; '.join(step.command for step in inside)}"
        )
    for step in plan.steps:
        for command in () if is_inside(step) else (step.command, step.undo):
            if command and allowed is not None and not _stays_in(command, allowed):
                raise UsageError(f"refused, as it is not confined to the practice net: {command}")


def _stays_in(command: str, allowed: Collection[str]) -> bool:
    words = shlex.split(command)
    return words[:3] == ["ip", "netns", "exec"] and len(words) > 4 and words[3] in allowed
