"""Links that have no address, and which one they should have, as far as anything here tells.

An address that was deleted leaves traces: a lease for the NIC's MAC address, a neighbour that
still remembers it, a route by way of it, libvirt's definition of the network, a rule that
translates to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_interface
from typing import NamedTuple

from kvmdiag.diagnose.case import Case, addresses_of, link_of
from kvmdiag.diagnose.nets import network_on
from kvmdiag.diagnose.rules import source_nats
from kvmdiag.model.link import Link
from kvmdiag.model.report import Evidence
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack
from kvmdiag.model.statements import SourceNat
from kvmdiag.simulate.facts.addresses import parse_address


class Absent(NamedTuple):
    """An address (``192.168.48.10/24``) that a link should have, and what says so."""

    address: str
    evidence: Evidence


Place = tuple[Stack, Link]


def is_bare(stack: Stack, link: Link) -> bool:
    """Whether a link that could have an IPv4 address is up and has none but one of its own."""
    if not link.up or link.is_loopback or link.master is not None or stack.addresses is None:
        return False
    if link.kind not in (None, "veth", "bridge", "vlan", "bond"):
        return False
    carries = any(link.name in (other.lower, other.master) for other in stack.links or ())
    if carries and link.kind not in ("bridge", "bond"):
        return False  # what is on top of it has the addresses
    return not _addressed(stack, link)


def _addressed(stack: Stack, link: Link) -> bool:
    return any(a.version == 4 and not a.ip.is_link_local for a in addresses_of(stack, link.name))


def absent_addresses(case: Case, stack: Stack, link: Link) -> tuple[Absent, ...]:
    """The addresses that a bare link should have, the plainest first; nobody has them now."""
    around = tuple(_neighbourhood(case, stack, link))
    found = {
        absent.address: absent
        for absent in (
            *_of_network(case.snapshot, link),
            *_leased(case.snapshot, link),
            *_used_as_gateway(around),
            *_remembered(around, link),
            *_translated_to(stack, around),
        )
    }
    taken = {entry.address for other in case.snapshot.stacks for entry in other.addresses or ()}
    return tuple(a for a in found.values() if a.address.partition("/")[0] not in taken)


def _neighbourhood(case: Case, stack: Stack, link: Link) -> Iterator[Place]:
    """The links on the same segment: the bridge, and the NICs behind its other ports."""
    homes = ((stack, link),) if link.kind == "bridge" else tuple(_plugged(case, link))
    for home, bridge in homes:
        if bridge is not link:
            yield home, bridge
        for port in home.links or ():
            if port.master != bridge.name or port.peer is None:
                continue
            far = case.stack(port.peer.stack)
            nic = None if far is None else link_of(far, port.peer.link)
            if far is not None and nic is not None and nic is not link:
                yield far, nic


def _plugged(case: Case, link: Link) -> Iterator[Place]:
    far = None if link.peer is None else case.stack(link.peer.stack)
    port = None if far is None or link.peer is None else link_of(far, link.peer.link)
    bridge = None if far is None or port is None else link_of(far, port.master)
    if far is not None and bridge is not None:
        yield far, bridge


def _networks(around: tuple[Place, ...]) -> Iterator[IPv4Network]:
    for stack, link in around:
        for address in addresses_of(stack, link.name):
            if isinstance(address.network, IPv4Network) and address.network.prefixlen < 32:
                yield address.network


def _with_prefix(text: str, around: tuple[Place, ...]) -> str | None:
    """The address with the prefix length that others on the segment have, when they do."""
    address = parse_address(text)
    for network in _networks(around):
        if isinstance(address, IPv4Address) and address in network:
            return f"{address}/{network.prefixlen}"
    return None


def _of_network(snapshot: Snapshot, link: Link) -> Iterator[Absent]:
    """What libvirt gives to the bridge of a network."""
    network = network_on(snapshot, link.name) if link.kind == "bridge" else None
    if network is None or not network.active:
        return
    for text in network.addresses:
        if ip_interface(text).version == 4:
            yield Absent(text, Evidence(f"<ip> {text}", f"virsh net-dumpxml {network.name}"))


def _leased(snapshot: Snapshot, link: Link) -> Iterator[Absent]:
    """Leases and reservations for the MAC address of the NIC."""
    for network in snapshot.networks or ():
        lengths = [ip_interface(text).network for text in network.addresses]
        given = [(lease.mac, lease.address) for lease in network.leases or ()]
        given += [(host.mac or "", host.address) for host in network.reservations]
        for mac, text in given:
            fits = [net for net in lengths if ip_address(text) in net]
            if link.mac and mac.lower() == link.mac.lower() and fits:
                fact = Evidence(f"{text} is for {mac}", f"virsh net-dhcp-leases {network.name}")
                yield Absent(f"{text}/{fits[0].prefixlen}", fact)


def _used_as_gateway(around: tuple[Place, ...]) -> Iterator[Absent]:
    """Gateways that machines on the segment use, in their own network."""
    for stack, link in around:
        for route in stack.routes or ():
            for hop in route.next_hops:
                if hop.link != link.name or hop.gateway is None or ":" in hop.gateway:
                    continue
                text = _with_prefix(hop.gateway, ((stack, link),))
                if text is not None:
                    yield Absent(text, Evidence(route.text, f"ip route in {stack.name}"))


def _remembered(around: tuple[Place, ...], link: Link) -> Iterator[Absent]:
    """Neighbours' entries with the MAC address of the NIC."""
    for stack, near in around:
        for entry in stack.neighbours or ():
            mine = entry.link == near.name and entry.mac is not None and entry.mac == link.mac
            text = _with_prefix(entry.address, ((stack, near),)) if mine else None
            if text is not None:
                fact = f"{entry.address} lladdr {entry.mac} {entry.state.upper()}"
                yield Absent(text, Evidence(fact, f"ip neigh dev {near.name} in {stack.name}"))


def _translated_to(stack: Stack, around: tuple[Place, ...]) -> Iterator[Absent]:
    """What the stack's own rules translate to, in a network of the segment."""
    for placed in source_nats(stack):
        for part in placed.rule.body:
            if isinstance(part, SourceNat) and part.first:
                text = _with_prefix(part.first, around)
                if text is not None:
                    yield Absent(text, Evidence(placed.rule.text, f"nat tables of {stack.name}"))
