"""Which drops of a probe are none of its loss."""

from __future__ import annotations

from kvmdiag.model.snapshot import Snapshot

_NO_DROPS = frozenset({"SKB_NOT_DROPPED_YET", "SKB_CONSUMED"})


class Bystanders:
    """Tells copies that nobody needs from the packet itself.

    A bridge that is being watched hands copies of what it bridges to the host, and the answer
    to a raw socket's ping is one to no socket besides. ``source`` is the stack that sends.
    """

    def __init__(self, snapshot: Snapshot, source: str | None) -> None:
        self._source = source
        self._bridges = {
            (stack.name, link.name)
            for stack in snapshot.stacks
            for link in stack.links or ()
            if link.bridge
        }

    def is_loss(
        self, stack: str | None, link: str | None, reason: str | None, *, reply: bool
    ) -> bool:
        """Whether a drop with this reason (without SKB_DROP_REASON_) counts."""
        if reason == "OTHERHOST":
            return (stack, link) not in self._bridges
        if reason == "NO_SOCKET":
            return not reply or stack != self._source
        return reason not in _NO_DROPS
