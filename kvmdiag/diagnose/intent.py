"""The paths that are meant to work, as far as the snapshot shows what was intended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_address, ip_interface
from itertools import islice, pairwise

from kvmdiag.diagnose.case import Interface, addresses_of
from kvmdiag.diagnose.gateways import Outside, gateways
from kvmdiag.diagnose.nets import ROUTED, is_guest_bridge, libvirt_network, network_on
from kvmdiag.diagnose.rules import source_nats, translates
from kvmdiag.errors import UsageError
from kvmdiag.model.link import Link
from kvmdiag.model.packet import Protocol
from kvmdiag.model.question import Question
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Address, Stack
from kvmdiag.model.trace import Outcome, Reason, Stage, Walk
from kvmdiag.simulate.endpoints import resolve

# More paths than that say nothing new about a host, and each costs a walk.
_MOST = 1000
_ANY = ("0.0.0.0", "::")  # noqa: S104 - what a socket shows that hears all addresses


def intended_paths(snapshot: Snapshot) -> tuple[Question, ...]:
    """The paths that should work on this host, without repetition.

    Each machine to its gateways; to the host's own gateways in use, which stand for the
    outside, where its network is to lead there; to the DHCP and DNS of its network; and the
    machines on one bridge around in a ring, which passes every port both ways without asking
    for every pair. What is isolated on purpose is left out.
    """
    wanted = dict.fromkeys(islice(_named(snapshot), _MOST))
    found = []
    for source, destination, port in wanted:
        try:
            proto: Protocol = "icmp" if port is None else "udp"
            found.append(resolve(snapshot, source, destination, proto=proto, port=port))
        except UsageError:
            # A machine whose addresses were not read cannot be asked about; its gap says so.
            continue
    return tuple(found)


def refuses_ping(walk: Walk) -> bool:
    """Whether the packet came to the machine it was for, whose own rules let no ping pass.

    That proves the path; a machine that answers no ping is not down for it.
    """
    end = walk.decisive.end
    last = Stage.INPUT if end.direction == "request" else Stage.OUTPUT
    return (
        walk.question.proto in ("icmp", "icmpv6")
        and walk.decisive.reason is Reason.NETFILTER
        and end.stage is last
        and end.stack == walk.question.destination.stack
    )


def is_for_others(snapshot: Snapshot, walk: Walk) -> bool:
    """Whether this host has done its part, and the rest is for the routers beyond it.

    A packet of a network that libvirt means to be routed has left, or one with an address of
    the public Internet. That the routers know the way back is as much taken for granted as
    that they know the way back to the host itself.
    """
    end = walk.request.end
    if walk.works is not None or walk.request.outcome is not Outcome.LEFT:
        return False
    network = libvirt_network(snapshot, end.packet.src)
    if network is None:
        return end.packet.src.is_global
    return network.active and network.mode in ROUTED


def _named(snapshot: Snapshot) -> Iterator[tuple[str, str, int | None]]:
    host = snapshot.stack(snapshot.host)
    outside = Outside(snapshot)
    for stack in snapshot.stacks:
        mine = gateways(stack)
        for gateway in mine:
            # One of a link's own range need not be anybody's address: Calico's is but proxied.
            if not ip_address(gateway).is_link_local:
                yield stack.name, gateway, None
        leads = _leads_out(snapshot, stack, mine)
        for gateway in outside.of(stack):
            if (":" in gateway) in leads:
                yield stack.name, gateway, None
                if stack.name != snapshot.host:
                    for nic in _ways_out(stack, "::/0" if ":" in gateway else "0.0.0.0/0"):
                        yield f"{stack.name}:{nic}", gateway, None
    for stack in snapshot.stacks:
        for source, destination in _on_bridges(snapshot, stack):
            yield source, destination, None
    yield from _services(snapshot, host)


def _leads_out(snapshot: Snapshot, stack: Stack, gateways: Sequence[str]) -> set[bool]:
    """For which versions a machine is to reach the outside: IPv4 (false), IPv6 (true).

    It has a default route that does not end in an isolated network; or it has none, and its
    network is meant to have a way out, by libvirt's word or because a machine on its bridge
    translates addresses for just this network.
    """
    isolated = {
        str(ip_interface(text).ip)
        for network in snapshot.networks or ()
        if network.mode is None
        for text in network.addresses
    }
    found = {":" in gateway for gateway in gateways if gateway not in isolated}
    if stack.name != snapshot.host and not gateways and stack.routes is not None:
        found |= {
            address.version == 6
            for address in _global_addresses(stack)
            if _has_router(snapshot, stack, address)
        }
    return found


def _ways_out(stack: Stack, everywhere: str) -> tuple[str, ...]:
    """The NICs of a machine that has default routes by several; each is to be good for its own.

    Not asked of the host: its second uplink has gateways beyond it that nothing here knows.
    """
    nics = dict.fromkeys(
        hop.link
        for route in stack.routes or ()
        if route.destination == everywhere and route.type == "unicast"
        for hop in route.next_hops
        if hop.link is not None
    )
    return tuple(nics) if len(nics) > 1 else ()


def _has_router(snapshot: Snapshot, stack: Stack, address: Interface) -> bool:
    network = libvirt_network(snapshot, address.ip)
    if network is not None:
        return network.active and network.mode in ("nat", *ROUTED)
    return any(
        other.name != stack.name
        and any(mine.network == address.network for mine in _global_addresses(other))
        and any(translates(placed.rule, address.ip) for placed in source_nats(other))
        for other in snapshot.stacks
    )


def _global_addresses(stack: Stack) -> Iterator[Interface]:
    for entry in stack.addresses or ():
        if entry.scope == "global":
            yield ip_interface(entry.network)


def _services(snapshot: Snapshot, host: Stack) -> Iterator[tuple[str, str, int | None]]:
    """DHCP and DNS on the host's bridges: where libvirt says so, or a program listens there."""
    for bridge in host.links or ():
        network = network_on(snapshot, bridge.name)
        if bridge.kind != "bridge" or (network is None and not is_guest_bridge(host, bridge.name)):
            continue
        ports = {67} if network is not None and network.dhcp else set()
        if network is not None and network.dns:
            ports |= {53}
        for version in (4, 6):
            own = next((a for a in addresses_of(host, bridge.name) if a.version == version), None)
            if own is None:
                continue
            if network is None:
                ports = _heard(snapshot, host, str(own.ip))
            for source, _ in _members(snapshot, host, bridge.name, version):
                for port in sorted(ports if version == 4 else ports & {53}):
                    yield source, str(own.ip), port


def _heard(snapshot: Snapshot, host: Stack, own: str) -> set[int]:
    """Ports of DHCP and DNS that a program serves at this address of a bridge made by hand.

    A DHCP server hears all addresses, whichever bridge it is for (dnsmasq binds its socket to
    the device): with one of libvirt's about, it is taken for libvirt's.
    """
    of_libvirt = any(network.active and network.dhcp for network in snapshot.networks or ())
    heard = {
        socket.port
        for socket in host.sockets or ()
        if socket.protocol == "udp"
        and socket.port in (53, 67)
        and (socket.address == own or (socket.address in _ANY and not of_libvirt))
    }
    return heard if 67 in heard else set()


def _without_address(snapshot: Snapshot, stack: Stack, bridge: Link) -> Iterator[tuple[str, str]]:
    """The guests on a bridge that have no address at all, each to somebody who has one there.

    What holds a bridge or a bond inside carries for others, and needs none itself.
    """
    stacks = {other.name: other for other in snapshot.stacks}
    known = [str(a.ip) for a in addresses_of(stack, bridge.name) if a.version == 4]
    known += [address.address for _, address in _members(snapshot, stack, bridge.name, 4)]
    for port in stack.links or () if known else ():
        guest = stacks.get(port.peer.stack) if port.peer is not None else None
        if port.master == bridge.name and guest is not None and _is_mute(guest):
            yield guest.name, known[0]


def _is_mute(stack: Stack) -> bool:
    """Whether a machine that stands for itself alone has no address to speak with."""
    if stack.addresses is None or stack.links is None or any(k.master for k in stack.links):
        return False
    return not any(True for _ in _global_addresses(stack))


def _on_bridges(snapshot: Snapshot, stack: Stack) -> Iterator[tuple[str, str]]:
    for bridge in stack.links or ():
        if bridge.kind != "bridge":
            continue
        for version in (4, 6):
            members = list(_members(snapshot, stack, bridge.name, version))
            for (one, _), (other, address) in pairwise((*members, *members[:1])):
                if one != other:
                    yield one, address.address
        yield from _without_address(snapshot, stack, bridge)


def _members(
    snapshot: Snapshot, stack: Stack, bridge: str, version: int
) -> Iterator[tuple[str, Address]]:
    """The machines at a bridge's ports that share a network with the first of them."""
    stacks = {other.name: other for other in snapshot.stacks}
    network = None
    for port in stack.links or ():
        if port.master != bridge or port.peer is None or (port.port and port.port.isolated):
            continue
        guest = stacks.get(port.peer.stack)
        for address in (guest.addresses or ()) if guest is not None else ():
            if address.link != port.peer.link or address.scope != "global":
                continue
            mine = ip_interface(address.network).network
            if mine.version != version:
                continue
            network = network or mine
            if mine == network:
                yield port.peer.stack, address
                break
