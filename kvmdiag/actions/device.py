"""Changing what a network device is: its MTU and its MAC address."""

from __future__ import annotations

from msgspec.structs import replace

from kvmdiag.actions.keep import keep, keep_link
from kvmdiag.actions.link_change import LinkChange
from kvmdiag.actions.link_effects import link_named, with_link, without_neighbours
from kvmdiag.model.link import Link
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack


class SetMtu(LinkChange, frozen=True, kw_only=True):
    """``ip link set LINK mtu N``."""

    mtu: int
    disruptive: bool = False

    @property
    def _words(self) -> tuple[str, ...]:
        return ("mtu", str(self.mtu))

    def _before(self, link: Link) -> tuple[str, ...]:
        return ("mtu", str(link.mtu))

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

    def _applied(self, snapshot: Snapshot, stack: Stack, link: Link) -> Snapshot:
        """The link with the MTU, and its bridge with that of its smallest port."""
        changed = with_link(stack, replace(link, mtu=self.mtu))
        master = link_named(stack, link.master or "")
        # br_mtu_auto_adjust (net/bridge/br_if.c), unless somebody has set it by hand.
        if master is not None and master.mtu == _smallest_port(stack, master.name):
            mtu = _smallest_port(changed, master.name)
            changed = with_link(changed, replace(master, mtu=mtu))
        return snapshot.with_stack(changed)


class SetMac(LinkChange, frozen=True, kw_only=True):
    """``ip link set LINK address MAC``."""

    mac: str
    disruptive: bool = True

    @property
    def _words(self) -> tuple[str, ...]:
        return ("address", self.mac)

    def _before(self, link: Link) -> tuple[str, ...]:
        return ("address", link.mac or self.mac)

    def persist(self, snapshot: Snapshot) -> str:
        """The guest's definition holds its MAC address."""
        how = f"<mac address='{self.mac}'/> in the guest's XML (virsh edit), and start it anew"
        return keep(snapshot.stack(self.stack), how)

    def _applied(self, snapshot: Snapshot, stack: Stack, link: Link) -> Snapshot:
        """The link with the address, and no neighbour remembered on it."""
        stack = with_link(stack, replace(link, mac=self.mac))
        return snapshot.with_stack(without_neighbours(stack, self.link))


def _smallest_port(stack: Stack, bridge: str) -> int | None:
    return min((link.mtu for link in stack.links or () if link.master == bridge), default=None)
