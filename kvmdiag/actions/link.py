"""Changing links: setting them up, and making them ports of a bridge."""

from __future__ import annotations

from ipaddress import ip_interface

import msgspec

from kvmdiag.actions.keep import keep, keep_link
from kvmdiag.model.link import BridgePort, Link, LinkRef
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Address, FdbEntry, NextHop, Route, Stack

_LOCAL_TABLE = 255


class SetLinkUp(msgspec.Struct, frozen=True, kw_only=True):
    """``ip link set LINK up``."""

    stack: str
    link: str

    @property
    def disruptive(self) -> bool:
        """False: a link that is down carries nobody's traffic."""
        return False

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``ip link set dev LINK up``."""
        del snapshot  # the command does not depend on what was there
        return ("ip", "link", "set", "dev", self.link, "up")

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``ip link set dev LINK down``."""
        del snapshot
        return ("ip", "link", "set", "dev", self.link, "down")

    def persist(self, snapshot: Snapshot) -> str:
        """Nothing sets a tap down at boot; what did it must be found."""
        how = f"libvirt sets {self.link} up when the guest starts; find what set it down"
        return keep(snapshot.stack(self.stack), how)

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """Link, its port, its bridge, the far end and the routes as the kernel sets them."""
        stack = snapshot.stack(self.stack)
        link = link_named(stack, self.link)
        if link is None or link.up:
            return snapshot
        far = _far_end(snapshot, link)
        # veth_open: both ends get a carrier as soon as both are up (drivers/net/veth.c).
        carrier = far is None or far.up
        changed = msgspec.structs.replace(
            link, up=True, carrier=carrier, operstate=_operstate(link, carrier)
        )
        stack = with_link(stack, changed)
        stack = _with_routes_of(stack, self.link)
        snapshot = snapshot.with_stack(with_ports_settled(stack))
        if link.peer is None or far is None or not far.up:
            return snapshot
        return with_carrier(snapshot, link.peer)


class SetMaster(msgspec.Struct, frozen=True, kw_only=True):
    """Make ``link`` a port of the bridge ``master``."""

    stack: str
    link: str
    master: str

    @property
    def disruptive(self) -> bool:
        """False: it is done to a link that is no port of anything."""
        return False

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``ip link set dev LINK master BRIDGE``."""
        del snapshot  # the command does not depend on what was there
        return ("ip", "link", "set", "dev", self.link, "master", self.master)

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """The master it had, or none."""
        link = link_named(snapshot.stack(self.stack), self.link)
        if link is None or link.master is None:
            return ("ip", "link", "set", "dev", self.link, "nomaster")
        return ("ip", "link", "set", "dev", self.link, "master", link.master)

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

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The link as a port, its own address in the FDB, and the bridge's carrier."""
        stack = snapshot.stack(self.stack)
        link = link_named(stack, self.link)
        if link is None:
            return snapshot
        # A bridge makes its ports listen to everything (br_add_if, br_manage_promisc).
        port = msgspec.structs.replace(
            link, master=self.master, port=BridgePort(), promiscuous=True, all_multicast=True
        )
        stack = with_link(stack, port)
        if stack.fdb is not None and link.mac is not None:
            own = FdbEntry(
                bridge=self.master, port=self.link, mac=link.mac, local=True, static=True
            )
            others = tuple(entry for entry in stack.fdb if entry.port != self.link)
            stack = msgspec.structs.replace(stack, fdb=(*others, own))
        return snapshot.with_stack(with_ports_settled(stack))


def link_named(stack: Stack, name: str) -> Link | None:
    """A link of a stack by name."""
    return next((link for link in stack.links or () if link.name == name), None)


def _far_end(snapshot: Snapshot, link: Link) -> Link | None:
    """The link at the other end of the cable, when it was seen."""
    if link.peer is None:
        return None
    stack = next((stack for stack in snapshot.stacks if stack.name == link.peer.stack), None)
    return None if stack is None else link_named(stack, link.peer.link)


def _operstate(link: Link, carrier: bool) -> str:
    """RFC 2863 states as net/core/link_watch.c gives them: a veth waits for its lower layer."""
    if carrier:
        return "up"
    return "lowerlayerdown" if link.kind == "veth" else "down"


def with_link(stack: Stack, changed: Link) -> Stack:
    """The stack in which the link of that name is ``changed``."""
    links = tuple(changed if link.name == changed.name else link for link in stack.links or ())
    return msgspec.structs.replace(stack, links=links)


def with_ports_settled(stack: Stack) -> Stack:
    """Port states and bridge carriers as br_port_state_selection sets them (br_stp.c).

    Without STP a port forwards as soon as it and its bridge are up; with STP it listens
    first. A bridge whose ports are all silent has no carrier.
    """
    bridges = {link.name: link for link in stack.links or () if link.bridge is not None}
    alive: set[str] = set()
    links = []
    for link in stack.links or ():
        bridge = bridges.get(link.master or "")
        if bridge is None or bridge.bridge is None or link.port is None:
            links.append(link)
            continue
        state = _port_state(link, bridge)
        if state == "forwarding":
            alive.add(bridge.name)
        links.append(
            msgspec.structs.replace(link, port=msgspec.structs.replace(link.port, state=state))
        )
    stack = msgspec.structs.replace(stack, links=tuple(links))
    for bridge in bridges.values():
        if bridge.up and bridge.name in alive:
            stack = _with_link_carrier(stack, bridge.name)
    return stack


def _port_state(link: Link, bridge: Link) -> str:
    if not (link.up and link.carrier and bridge.up):
        return "disabled"
    was = link.port.state if link.port is not None else "disabled"
    slow = bridge.bridge is not None and bridge.bridge.stp and bridge.bridge.forward_delay > 0
    if not slow:
        return "forwarding"
    return "listening" if was == "disabled" else was


def _with_link_carrier(stack: Stack, name: str) -> Stack:
    """A link that has its carrier (again), and its routes without ``linkdown``."""
    link = link_named(stack, name)
    if link is None:
        return stack
    stack = with_link(stack, msgspec.structs.replace(link, carrier=True, operstate="up"))
    if stack.routes is None:
        return stack
    routes = tuple(
        msgspec.structs.replace(
            route,
            next_hops=tuple(
                msgspec.structs.replace(hop, flags=hop.flags - {"linkdown"})
                if hop.link == name
                else hop
                for hop in route.next_hops
            ),
        )
        for route in stack.routes
    )
    return msgspec.structs.replace(stack, routes=routes)


def with_carrier(snapshot: Snapshot, place: LinkRef) -> Snapshot:
    """The snapshot in which a link has its carrier, with what the kernel does then."""
    stack = _with_link_carrier(snapshot.stack(place.stack), place.link)
    return snapshot.with_stack(with_ports_settled(stack))


def _with_routes_of(stack: Stack, link: str) -> Stack:
    """The IPv4 routes that come with a link's addresses (fib_add_ifaddr, fib_frontend.c)."""
    if stack.routes is None:
        return stack
    known = {(route.table, route.type, route.destination) for route in stack.routes}
    added = tuple(
        route
        for address in stack.addresses or ()
        if address.link == link and ":" not in address.address
        for route in address_routes(address)
        if (route.table, route.type, route.destination) not in known
    )
    return msgspec.structs.replace(stack, routes=(*stack.routes, *added))


def address_routes(address: Address) -> tuple[Route, ...]:
    """The IPv4 routes that the kernel makes for an address on a link that is up."""
    network = ip_interface(address.network).network
    hop = (NextHop(link=address.link),)

    def route(destination: str, type_: str, scope: str, table: int) -> Route:
        return Route(
            destination=destination,
            table=table,
            type=type_,
            scope=scope,
            protocol="kernel",
            preferred_source=address.address,
            next_hops=hop,
        )

    own = route(f"{address.address}/32", "local", "host", _LOCAL_TABLE)
    if network.prefixlen == network.max_prefixlen:
        return (own,)
    connected = route(str(network), "unicast", "link", 254)
    if network.prefixlen == network.max_prefixlen - 1:
        return (own, connected)
    broadcast = route(f"{network.broadcast_address}/32", "broadcast", "link", _LOCAL_TABLE)
    return (own, connected, broadcast)
