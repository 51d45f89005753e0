"""Questions about networks that several checks ask: who is where, and what was meant."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_interface

from kvmdiag.diagnose.case import Case, addresses_of, link_of
from kvmdiag.model.libvirt import Domain, GuestNic, Network
from kvmdiag.model.link import Link, LinkRef
from kvmdiag.model.packet import IPAddress
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Route, Stack
from kvmdiag.model.trace import Outcome, Walk

IPNetwork = IPv4Network | IPv6Network
ROUTED = ("route", "open", "bridge")

# How libvirt begins the names of the chains that make up its nwfilters.
NWFILTER_CHAINS = ("libvirt-", "I-", "O-", "FI-", "FO-", "HI-")


def leads_to_guest(link: Link) -> bool:
    """Whether a link is the host's end of a guest's cable."""
    return link.guest is not None or (link.peer is not None and link.kind in ("tun", "veth"))


def ports_of(stack: Stack, bridge: str) -> tuple[Link, ...]:
    """The ports of a bridge."""
    return tuple(link for link in stack.links or () if link.master == bridge)


def is_guest_bridge(stack: Stack, name: str | None) -> bool:
    """Whether guests are plugged into this link."""
    link = link_of(stack, name)
    if link is None or link.kind != "bridge":
        return False
    return any(leads_to_guest(port) for port in ports_of(stack, link.name))


def is_libvirt_bridge(snapshot: Snapshot, name: str) -> bool:
    """Whether libvirt made this bridge, as it says or, where it was not asked, by its name."""
    if snapshot.networks is not None:
        return any(network.bridge == name for network in snapshot.networks)
    return name.startswith("virbr") and name[5:].isdigit()


def network_on(snapshot: Snapshot, bridge: str | None) -> Network | None:
    """The libvirt network whose bridge this is."""
    for network in snapshot.networks or ():
        if bridge is not None and network.bridge == bridge:
            return network
    return None


def connected(stack: Stack, link: str) -> tuple[IPNetwork, ...]:
    """The networks that a link's addresses are in."""
    return tuple(address.network for address in addresses_of(stack, link))


def holders(stack: Stack, address: IPAddress) -> Iterator[tuple[Link, IPNetwork]]:
    """The links of a stack that say an address is in a network of theirs."""
    for link in stack.links or ():
        for network in connected(stack, link.name):
            if address in network and network.prefixlen < network.max_prefixlen:
                yield link, network


def defaults(stack: Stack, version: int = 4) -> tuple[Route, ...]:
    """The default routes of the main table, the preferred first."""
    everything = "0.0.0.0/0" if version == 4 else "::/0"
    found = (
        route
        for route in stack.routes or ()
        if route.destination == everything and route.table == 254 and route.type == "unicast"
    )
    return tuple(sorted(found, key=lambda route: route.metric))


def nic_behind(snapshot: Snapshot, link: Link) -> tuple[Domain, GuestNic] | None:
    """What libvirt says of the guest's NIC at the other end of a tap."""
    for domain in snapshot.domains or ():
        for nic in domain.nics:
            if nic.target == link.name:
                return domain, nic
    return None


def inactive_networks(case: Case) -> Iterator[tuple[Network, tuple[Link, ...]]]:
    """Each network that is off, with the loose cables on the host of guests that name it."""
    for network in case.snapshot.networks or ():
        loose = []
        for stack, link in case.guest_cables():
            behind = nic_behind(case.snapshot, link)
            if behind is None or stack.name != case.snapshot.host or link.master is not None:
                continue
            if behind[1].type == "network" and behind[1].source == network.name:
                loose.append(link)
        if loose and not network.active:
            yield network, tuple(loose)


def libvirt_network(snapshot: Snapshot, address: IPAddress) -> Network | None:
    """The libvirt network that an address belongs to."""
    for network in snapshot.networks or ():
        if any(address in ip_interface(text).network for text in network.addresses):
            return network
    return None


def inside_of(stacks: tuple[Stack, ...], cable: Link) -> tuple[Stack, Link] | None:
    """The guest's NIC at the other end of a cable, when the guest can be seen."""
    if cable.peer is None:
        return None
    far = next((stack for stack in stacks if stack.name == cable.peer.stack), None)
    nic = None if far is None else link_of(far, cable.peer.link)
    return None if far is None or nic is None else (far, nic)


def left_by(walk: Walk) -> LinkRef | None:
    """The uplink by which a request left what can be seen."""
    return walk.request.end.place if walk.request.outcome is Outcome.LEFT else None


def filtered_tap(stack: Stack, chain: str) -> str | None:
    """The tap that a chain of an nwfilter is for: ``I-vnet0-ipv4-ip`` is for vnet0."""
    prefix = next((p for p in NWFILTER_CHAINS if chain.startswith(p)), "")
    rest = chain.removeprefix(prefix)
    names = (link.name for link in stack.links or ())
    rest = rest.removeprefix("I-").removeprefix("O-")  # libvirt-I-vnet0
    return next((name for name in names if rest == name or rest.startswith(f"{name}-")), None)
