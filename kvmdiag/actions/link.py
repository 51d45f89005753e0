"""Setting links up, and making them ports of a bridge."""

from __future__ import annotations

from msgspec.structs import replace

from kvmdiag.actions.keep import keep, keep_link
from kvmdiag.actions.link_change import LinkChange
from kvmdiag.actions.link_effects import (
    far_end,
    link_named,
    operstate,
    with_carrier,
    with_link,
    with_ports_settled,
    with_routes_of,
)
from kvmdiag.model.link import BridgePort, Link
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import FdbEntry, Stack


class SetLinkUp(LinkChange, frozen=True, kw_only=True):
    """``ip link set LINK up``; a link that is down carries nobody's traffic."""

    disruptive: bool = False

    @property
    def _words(self) -> tuple[str, ...]:
        return ("up",)

    def _before(self, link: Link) -> tuple[str, ...]:
        del link  # what is up already is not set up
        return ("down",)

    def persist(self, snapshot: Snapshot) -> str:
        """Nothing sets a tap down at boot; what did it must be found."""
        how = f"libvirt sets {self.link} up when the guest starts; find what set it down"
        return keep(snapshot.stack(self.stack), how)

    def _applied(self, snapshot: Snapshot, stack: Stack, link: Link) -> Snapshot:
        """Link, its port, its bridge, the far end and the routes as the kernel sets them."""
        if link.up:
            return snapshot
        far = far_end(snapshot, link)
        # veth_open: both ends get a carrier as soon as both are up (drivers/net/veth.c).
        carrier = far is None or far.up
        changed = replace(link, up=True, carrier=carrier, operstate=operstate(link, carrier))
        stack = with_routes_of(with_link(stack, changed), self.link)
        snapshot = snapshot.with_stack(with_ports_settled(stack, self.link))
        if link.peer is None or far is None or not far.up:
            return snapshot
        return with_carrier(snapshot, link.peer)


class SetMaster(LinkChange, frozen=True, kw_only=True):
    """Make ``link`` a port of the bridge ``master``; it is none of anything else."""

    master: str
    disruptive: bool = False

    @property
    def _words(self) -> tuple[str, ...]:
        return ("master", self.master)

    def _before(self, link: Link) -> tuple[str, ...]:
        return ("nomaster",) if link.master is None else ("master", link.master)

    def persist(self, snapshot: Snapshot) -> str:
        """Libvirt plugs a guest's tap in by itself whenever the guest starts."""
        stack = snapshot.stack(self.stack)
        link = link_named(stack, self.link)
        if link is not None and link.is_uplink:
            return self._persist_uplink(snapshot, stack)
        how = (
            "the repair lasts while the guest runs; restarting virtnetworkd or libvirtd "
            "plugs in the taps of its own networks again"
        )
        return keep(stack, how)

    def _persist_uplink(self, snapshot: Snapshot, stack: Stack) -> str:
        """Whoever sets up the bridge names its NIC."""
        link, bridge = self.link, self.master
        ways = {
            "netplan": f"'interfaces: [{link}]' under {bridge} in {{name}}; then netplan apply",
            "networkd": f"'Bridge={bridge}' under [Network] in the .network file of {link}"
            " ({name} is the bridge's)",
            "networkmanager": f"nmcli connection add type ethernet ifname {link} master {bridge}",
            "ifupdown": f"'bridge_ports {link}' under 'iface {bridge}' in {{name}}",
            "any": f"name {link} where {bridge} is set up: netplan's 'interfaces: [{link}]', or "
            f"'Bridge={bridge}' in a .network file",
        }
        return keep_link(snapshot, stack, bridge, ways)

    def _applied(self, snapshot: Snapshot, stack: Stack, link: Link) -> Snapshot:
        """The link as a port, its own address in the FDB, and the bridge's carrier."""
        # A bridge makes its ports listen to everything (br_add_if, br_manage_promisc).
        port = replace(
            link, master=self.master, port=BridgePort(), promiscuous=True, all_multicast=True
        )
        stack = with_link(stack, port)
        if stack.fdb is not None and link.mac is not None:
            own = FdbEntry(
                bridge=self.master, port=self.link, mac=link.mac, local=True, static=True
            )
            others = tuple(entry for entry in stack.fdb if entry.port != self.link)
            stack = replace(stack, fdb=(*others, own))
        return snapshot.with_stack(with_ports_settled(stack, self.link))
