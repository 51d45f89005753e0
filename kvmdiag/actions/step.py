"""An action as a line that a person can paste."""

from __future__ import annotations

import shlex

from kvmdiag.model.action import Action
from kvmdiag.model.report import Step
from kvmdiag.model.snapshot import Snapshot


def step(action: Action, check: str, snapshot: Snapshot) -> Step:
    """The step of a plan that carries out ``action`` on the state that ``snapshot`` shows.

    Command and undo carry the prefix that takes a root shell, where kvmdiag ran, into the
    stack; a guest has none: its commands are for a shell inside it.
    """
    stack = snapshot.stack(action.stack)
    undo = action.undo(snapshot)
    return Step(
        check=check,
        where=stack.where,
        command=shlex.join((*stack.entry, *action.command(snapshot))),
        undo=shlex.join((*stack.entry, *undo)) if undo else "",
        persist=action.persist(snapshot),
        disruptive=action.disruptive,
    )
