"""Forgetting neighbours."""

from __future__ import annotations

import msgspec

from kvmdiag.actions.keep import keep
from kvmdiag.model.snapshot import Snapshot


class DeleteNeighbour(msgspec.Struct, frozen=True, kw_only=True):
    """``ip neigh del ADDRESS dev LINK``: the kernel asks anew who has it."""

    stack: str
    link: str
    address: str
    disruptive: bool = False

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``ip neigh del ADDRESS dev LINK``."""
        del snapshot  # the command does not depend on what was there
        return ("ip", "neigh", "del", self.address, "dev", self.link)

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """The entry as it was."""
        line = ("ip", "neigh", "replace", self.address, "dev", self.link)
        for entry in snapshot.stack(self.stack).neighbours or ():
            if (entry.link, entry.address) == (self.link, self.address) and entry.mac:
                return (*line, "lladdr", entry.mac, "nud", entry.state)
        return self.command(snapshot)

    def persist(self, snapshot: Snapshot) -> str:
        """Nobody sets permanent entries by accident twice."""
        how = "find what sets the entry (ifupdown 'up ip neigh', networkd [Neighbor], a script)"
        return keep(snapshot.stack(self.stack), how)

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The table without the entry."""
        stack = snapshot.stack(self.stack)
        if stack.neighbours is None:
            return snapshot
        kept = tuple(
            entry
            for entry in stack.neighbours
            if (entry.link, entry.address) != (self.link, self.address)
        )
        return snapshot.with_stack(msgspec.structs.replace(stack, neighbours=kept))
