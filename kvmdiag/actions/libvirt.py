"""What libvirt itself is asked to do."""

from __future__ import annotations

import msgspec

from kvmdiag.actions.link import link_named, with_carrier, with_link
from kvmdiag.model.snapshot import Snapshot


class SetGuestLink(msgspec.Struct, frozen=True, kw_only=True):
    """``virsh domif-setlink GUEST TAP up``: plugs in the cable of a running guest."""

    stack: str
    guest: str
    tap: str

    @property
    def disruptive(self) -> bool:
        """False: it concerns one NIC that is cut off."""
        return False

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``virsh domif-setlink GUEST TAP up``."""
        del snapshot  # the command does not depend on what was there
        return ("virsh", "domif-setlink", self.guest, self.tap, "up")

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``virsh domif-setlink GUEST TAP down``."""
        del snapshot
        return ("virsh", "domif-setlink", self.guest, self.tap, "down")

    def persist(self, snapshot: Snapshot) -> str:
        """The stored definition has a link state of its own."""
        del snapshot
        return f"virsh domif-setlink {self.guest} {self.tap} up --config"

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """What libvirt says of the NIC, and the carrier inside the guest."""
        domains = tuple(
            msgspec.structs.replace(
                domain,
                nics=tuple(
                    msgspec.structs.replace(nic, link_state="up") if nic.target == self.tap else nic
                    for nic in domain.nics
                ),
            )
            if domain.name == self.guest
            else domain
            for domain in snapshot.domains or ()
        )
        if snapshot.domains is not None:
            snapshot = msgspec.structs.replace(snapshot, domains=domains)
        stack = snapshot.stack(self.stack)
        tap = link_named(stack, self.tap)
        if tap is None:
            return snapshot
        snapshot = snapshot.with_stack(
            with_link(stack, msgspec.structs.replace(tap, carrier=True, operstate="up"))
        )
        if tap.peer is None or all(s.name != tap.peer.stack for s in snapshot.stacks):
            return snapshot
        return with_carrier(snapshot, tap.peer)


class ResumeGuest(msgspec.Struct, frozen=True, kw_only=True):
    """``virsh resume GUEST``."""

    stack: str
    guest: str
    disruptive: bool = False

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``virsh resume GUEST``."""
        del snapshot
        return ("virsh", "resume", self.guest)

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``virsh suspend GUEST``."""
        del snapshot
        return ("virsh", "suspend", self.guest)

    def persist(self, snapshot: Snapshot) -> str:
        """Nothing is kept; what paused it may do so again."""
        del snapshot
        return "find what paused it: virsh domstate GUEST --reason; a full disk is the usual cause"

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The domain runs."""
        domains = tuple(
            msgspec.structs.replace(domain, state="running")
            if domain.name == self.guest
            else domain
            for domain in snapshot.domains or ()
        )
        if snapshot.domains is None:
            return snapshot
        return msgspec.structs.replace(snapshot, domains=domains)


class StartNetwork(msgspec.Struct, frozen=True, kw_only=True):
    """``virsh net-start NETWORK``."""

    stack: str
    network: str
    disruptive: bool = False

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``virsh net-start NETWORK``."""
        del snapshot
        return ("virsh", "net-start", self.network)

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``virsh net-destroy NETWORK``."""
        del snapshot
        return ("virsh", "net-destroy", self.network)

    def persist(self, snapshot: Snapshot) -> str:
        """``virsh net-autostart``."""
        del snapshot
        return f"virsh net-autostart {self.network}"

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The network is active; its bridge and rules are libvirt's to make."""
        networks = tuple(
            msgspec.structs.replace(network, active=True)
            if network.name == self.network
            else network
            for network in snapshot.networks or ()
        )
        if snapshot.networks is None:
            return snapshot
        return msgspec.structs.replace(snapshot, networks=networks)
