"""What libvirt itself is asked to do."""

from __future__ import annotations

import shlex

import msgspec

from kvmdiag.actions.link_effects import link_named, with_carrier, with_link
from kvmdiag.model.snapshot import Snapshot

_DEFAULT_URI = "qemu:///system"


def virsh(snapshot: Snapshot, *arguments: str) -> tuple[str, ...]:
    """``virsh ARGUMENTS``, to the libvirt that was read."""
    uri = _DEFAULT_URI if snapshot.libvirt is None else snapshot.libvirt.uri
    return ("virsh", *(() if uri == _DEFAULT_URI else ("-c", uri)), *arguments)


class SetGuestLink(msgspec.Struct, frozen=True, kw_only=True):
    """``virsh domif-setlink GUEST TAP up``: plugs in the cable of a running guest."""

    stack: str
    guest: str
    tap: str
    disruptive: bool = False

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``virsh domif-setlink GUEST TAP up``."""
        return virsh(snapshot, "domif-setlink", self.guest, self.tap, "up")

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``virsh domif-setlink GUEST TAP down``."""
        return virsh(snapshot, "domif-setlink", self.guest, self.tap, "down")

    def persist(self, snapshot: Snapshot) -> str:
        """The stored definition has a link state of its own."""
        words = virsh(snapshot, "domif-setlink", self.guest, self.tap, "up", "--config")
        return shlex.join(words)

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
        return virsh(snapshot, "resume", self.guest)

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``virsh suspend GUEST``."""
        return virsh(snapshot, "suspend", self.guest)

    def persist(self, snapshot: Snapshot) -> str:
        """Nothing is kept; what paused it may do so again."""
        words = virsh(snapshot, "domstate", self.guest, "--reason")
        return f"find what paused it: {shlex.join(words)}; a full disk is the usual cause"

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
