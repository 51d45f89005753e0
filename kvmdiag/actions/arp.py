"""Setting the ARP of a link on."""

from __future__ import annotations

from msgspec.structs import replace

from kvmdiag.actions.keep import keep
from kvmdiag.actions.link_change import LinkChange
from kvmdiag.actions.link_effects import with_link, without_neighbours
from kvmdiag.model.link import Link
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack


class SetArpOn(LinkChange, frozen=True, kw_only=True):
    """``ip link set LINK arp on``; without ARP fixed entries alone lead to anybody there."""

    disruptive: bool = False

    @property
    def _words(self) -> tuple[str, ...]:
        return ("arp", "on")

    def _before(self, link: Link) -> tuple[str, ...]:
        del link  # where ARP is on it is not set on
        return ("arp", "off")

    def persist(self, snapshot: Snapshot) -> str:
        """It is on unless something sets it off."""
        how = f"find what sets {self.link} to 'arp off' (ARP=no under [Link] in a .network file)"
        return keep(snapshot.stack(self.stack), how)

    def _applied(self, snapshot: Snapshot, stack: Stack, link: Link) -> Snapshot:
        """The link with ARP, and nobody known on it any more."""
        stack = with_link(stack, replace(link, arp=True))
        return snapshot.with_stack(without_neighbours(stack, self.link))
