"""Forgetting connections, so that rules are asked about them anew."""

from __future__ import annotations

import msgspec

from kvmdiag.model.snapshot import Snapshot


class FlushConnections(msgspec.Struct, frozen=True, kw_only=True):
    """``conntrack -D -s SOURCE``; ``source`` is an address or a CIDR."""

    stack: str
    source: str
    disruptive: bool = True

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``conntrack -D -s SOURCE``."""
        del snapshot  # the command does not depend on what was there
        return ("conntrack", "-D", "-s", self.source)

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """Nothing: a connection that goes on is tracked anew by its next packet."""
        del snapshot
        return ("true",)

    def persist(self, snapshot: Snapshot) -> str:
        """Connections do not outlive a reboot."""
        del snapshot
        return "nothing to keep: connections do not outlive a reboot"

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The same snapshot: each walk begins with no connection."""
        return snapshot
