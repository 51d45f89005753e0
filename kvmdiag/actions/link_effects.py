"""What the kernel changes along with a link: ports, carriers, routes, neighbours."""

from __future__ import annotations

from ipaddress import ip_interface

from msgspec.structs import replace

from kvmdiag.model.link import Link, LinkRef
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Address, NextHop, Route, Stack

_LOCAL_TABLE = 255


def link_named(stack: Stack, name: str) -> Link | None:
    """A link of a stack by name."""
    return next((link for link in stack.links or () if link.name == name), None)


def far_end(snapshot: Snapshot, link: Link) -> Link | None:
    """The link at the other end of the cable, when it was seen."""
    if link.peer is None:
        return None
    stack = next((stack for stack in snapshot.stacks if stack.name == link.peer.stack), None)
    return None if stack is None else link_named(stack, link.peer.link)


def operstate(link: Link, carrier: bool) -> str:
    """RFC 2863 states as net/core/link_watch.c gives them: a veth waits for its lower layer."""
    if carrier:
        return "up"
    return "lowerlayerdown" if link.kind == "veth" else "down"


def with_link(stack: Stack, changed: Link) -> Stack:
    """The stack in which the link of that name is ``changed``."""
    links = tuple(changed if link.name == changed.name else link for link in stack.links or ())
    return replace(stack, links=links)


def without_neighbours(stack: Stack, link: str) -> Stack:
    """The stack that remembers nobody on a link (neigh_changeaddr, arp_netdev_event)."""
    if stack.neighbours is None:
        return stack
    kept = tuple(entry for entry in stack.neighbours if entry.link != link)
    return replace(stack, neighbours=kept)


def with_ports_settled(stack: Stack, changed: str) -> Stack:
    """Port states and bridge carriers after a link or bridge named ``changed`` came up.

    Without STP a port forwards as soon as it and its bridge are up; with STP it listens
    first. One that was disabled by hand stays so until it or its bridge comes up anew
    (br_port_state_selection, br_stp_enable_port, br_stp_enable_bridge). A bridge whose ports
    are all silent has no carrier.
    """
    bridges = {link.name: link for link in stack.links or () if link.bridge is not None}
    alive: set[str] = set()
    links = []
    for link in stack.links or ():
        bridge = bridges.get(link.master or "")
        if bridge is None or bridge.bridge is None or link.port is None:
            links.append(link)
            continue
        state = link.port.state
        if state != "disabled" or changed in (link.name, bridge.name):
            state = _port_state(link, bridge)
        if state == "forwarding":
            alive.add(bridge.name)
        links.append(replace(link, port=replace(link.port, state=state)))
    stack = replace(stack, links=tuple(links))
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
    stack = with_link(stack, replace(link, carrier=True, operstate="up"))
    if stack.routes is None:
        return stack
    routes = tuple(
        replace(
            route,
            next_hops=tuple(
                replace(hop, flags=hop.flags - {"linkdown"}) if hop.link == name else hop
                for hop in route.next_hops
            ),
        )
        for route in stack.routes
    )
    return replace(stack, routes=routes)


def with_carrier(snapshot: Snapshot, place: LinkRef) -> Snapshot:
    """The snapshot in which a link has its carrier, with what the kernel does then."""
    stack = _with_link_carrier(snapshot.stack(place.stack), place.link)
    return snapshot.with_stack(with_ports_settled(stack, place.link))


def with_routes_of(stack: Stack, link: str) -> Stack:
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
    return replace(stack, routes=(*stack.routes, *added))


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
