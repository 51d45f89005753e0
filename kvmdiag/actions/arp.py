"""Setting the ARP of a link on."""

from __future__ import annotations

import msgspec

from kvmdiag.actions.keep import keep
from kvmdiag.actions.link import link_named, with_link
from kvmdiag.model.snapshot import Snapshot


class SetArpOn(msgspec.Struct, frozen=True, kw_only=True):
    """``ip link set LINK arp on``."""

    stack: str
    link: str

    @property
    def disruptive(self) -> bool:
        """False: who has no ARP there is reached by nobody but with fixed entries."""
        return False

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``ip link set dev LINK arp on``."""
        del snapshot
        return ("ip", "link", "set", "dev", self.link, "arp", "on")

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``ip link set dev LINK arp off``."""
        del snapshot
        return ("ip", "link", "set", "dev", self.link, "arp", "off")

    def persist(self, snapshot: Snapshot) -> str:
        """It is on unless something sets it off."""
        how = f"find what sets {self.link} to 'arp off' (ARP=no under [Link] in a .network file)"
        return keep(snapshot.stack(self.stack), how)

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The link with ARP, and nobody known on it any more (arp_netdev_event)."""
        stack = snapshot.stack(self.stack)
        link = link_named(stack, self.link)
        if link is None:
            return snapshot
        stack = with_link(stack, msgspec.structs.replace(link, arp=True))
        if stack.neighbours is not None:
            kept = tuple(entry for entry in stack.neighbours if entry.link != self.link)
            stack = msgspec.structs.replace(stack, neighbours=kept)
        return snapshot.with_stack(stack)
