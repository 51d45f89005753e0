"""Changing what a network device is: its MTU and its MAC address."""

from __future__ import annotations

import msgspec

from kvmdiag.actions.keep import keep, keep_link
from kvmdiag.actions.link import link_named, with_link
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack


class SetMtu(msgspec.Struct, frozen=True, kw_only=True):
    """``ip link set LINK mtu N``."""

    stack: str
    link: str
    mtu: int
    disruptive: bool = False

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``ip link set dev LINK mtu N``."""
        del snapshot  # the command does not depend on what was there
        return ("ip", "link", "set", "dev", self.link, "mtu", str(self.mtu))

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """The MTU it had."""
        link = link_named(snapshot.stack(self.stack), self.link)
        before = self.mtu if link is None else link.mtu
        return ("ip", "link", "set", "dev", self.link, "mtu", str(before))

    def persist(self, snapshot: Snapshot) -> str:
        """Where MTUs are configured."""
        mtu, link = self.mtu, self.link
        ways = {
            "netplan": f"'mtu: {mtu}' under {link} in {{name}}; then netplan apply",
            "networkd": f"'MTUBytes={mtu}' under [Link] in {{name}}",
            "networkmanager": f"nmcli connection modify {{name}} 802-3-ethernet.mtu {mtu}",
            "ifupdown": f"'mtu {mtu}' under 'iface {link}' in {{name}}",
            "libvirt": f"<mtu size='{mtu}'/> in the network's XML: virsh net-edit {{name}}",
            "any": f"<mtu size='{mtu}'/> in libvirt's network or interface XML for a tap; "
            f"netplan 'mtu: {mtu}' or MTUBytes={mtu} in the .network file for a NIC",
        }
        return keep_link(snapshot, snapshot.stack(self.stack), link, ways)

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The link with the MTU, and its bridge with that of its smallest port."""
        stack = snapshot.stack(self.stack)
        link = link_named(stack, self.link)
        if link is None:
            return snapshot
        before = stack
        stack = with_link(stack, msgspec.structs.replace(link, mtu=self.mtu))
        master = link_named(stack, link.master or "")
        # br_mtu_auto_adjust (net/bridge/br_if.c), unless somebody has set it by hand.
        if master is not None and master.mtu == _smallest_port(before, master.name):
            mtu = _smallest_port(stack, master.name)
            stack = with_link(stack, msgspec.structs.replace(master, mtu=mtu))
        return snapshot.with_stack(stack)


class SetMac(msgspec.Struct, frozen=True, kw_only=True):
    """``ip link set LINK address MAC``."""

    stack: str
    link: str
    mac: str
    disruptive: bool = True

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``ip link set dev LINK address MAC``."""
        del snapshot
        return ("ip", "link", "set", "dev", self.link, "address", self.mac)

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """The MAC address it had."""
        link = link_named(snapshot.stack(self.stack), self.link)
        before = self.mac if link is None or link.mac is None else link.mac
        return ("ip", "link", "set", "dev", self.link, "address", before)

    def persist(self, snapshot: Snapshot) -> str:
        """The guest's definition holds its MAC address."""
        how = f"<mac address='{self.mac}'/> in the guest's XML (virsh edit), and start it anew"
        return keep(snapshot.stack(self.stack), how)

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The link with the address, and no neighbour remembered on it (neigh_changeaddr)."""
        stack = snapshot.stack(self.stack)
        link = link_named(stack, self.link)
        if link is None:
            return snapshot
        stack = with_link(stack, msgspec.structs.replace(link, mac=self.mac))
        if stack.neighbours is not None:
            kept = tuple(entry for entry in stack.neighbours if entry.link != self.link)
            stack = msgspec.structs.replace(stack, neighbours=kept)
        return snapshot.with_stack(stack)


def _smallest_port(stack: Stack, bridge: str) -> int | None:
    return min((link.mtu for link in stack.links or () if link.master == bridge), default=None)
