"""Forgetting connections, so that rules are asked about them anew."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import msgspec
from msgspec.structs import replace

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
        """Connections that were found are gone; of others each walk begins without any."""
        stack = snapshot.stack(self.stack)
        gone = ip_network(self.source, strict=False)
        kept = [flow for flow in stack.flows or () if ip_address(flow.original.source) not in gone]
        if stack.flows is None or len(kept) == len(stack.flows):
            return snapshot
        return snapshot.with_stack(replace(stack, flows=tuple(kept)))
