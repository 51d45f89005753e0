"""A change to a system, known well enough to print it, to simulate it, and to undo it."""

from __future__ import annotations

from typing import Protocol

from kvmdiag.model.snapshot import Snapshot


class Action(Protocol):
    """One change to one stack.

    The same definition serves the printed fix, the simulated proof, the carrying out and
    the rollback. Implementations are frozen msgspec structs in ``kvmdiag.actions``.
    """

    @property
    def stack(self) -> str:
        """The name of the stack that is changed."""

    @property
    def disruptive(self) -> bool:
        """True when traffic of others is interrupted or lets through more than it did."""

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """The program and its arguments, to be run in the stack's namespace."""

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """What restores the state that ``snapshot`` shows; empty when nothing needs to.

        The latter is for what only makes a program do what it is there for.
        """

    def persist(self, snapshot: Snapshot) -> str:
        """How to keep the change over a reboot, in one line."""

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot as it would be read after the change."""
