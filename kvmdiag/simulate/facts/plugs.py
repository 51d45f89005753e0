"""Taps of guests whose inside is not seen, and what this side tells of the NICs behind them.

Leases, reservations and neighbours tell addresses; DHCP tells its clients of the gateway.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import NamedTuple

from kvmdiag.model.libvirt import GuestNic, Network
from kvmdiag.model.link import Link
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack
from kvmdiag.simulate.facts.addresses import parse_address, parse_network

_KUBEVIRT = "k6t-"
_USELESS = frozenset({"failed", "incomplete", "none", "noarp"})


class Plug(NamedTuple):
    """A tap of a guest, in the stack that has it, with what libvirt says of the NIC behind it.

    ``bridge`` is where the tap belongs, also when it is not plugged in there. ``carrier`` is
    false when libvirt has unplugged the cable, which the tap does not show.
    """

    stack: Stack
    tap: Link
    mac: str | None
    bridge: str | None
    carrier: bool


def plug_of(snapshot: Snapshot, stack: Stack, tap: Link, nic: GuestNic) -> Plug:
    """A tap of a stack, with the NIC that libvirt says is behind it."""
    networks = {network.name: network.bridge for network in snapshot.networks or ()}
    bridge = tap.master or nic.bridge or networks.get(nic.source or "")
    mac = nic.mac.lower() if nic.mac else _learnt(stack, tap)
    return Plug(stack, tap, mac, bridge, nic.link_state != "down")


def _learnt(stack: Stack, tap: Link) -> str | None:
    """The MAC address behind a tap, where the bridge has learnt just one."""
    macs = {entry.mac for entry in stack.fdb or () if entry.port == tap.name and not entry.local}
    return macs.pop() if len(macs) == 1 else None


def addresses_of(snapshot: Snapshot, plug: Plug) -> Iterator[tuple[str, str]]:
    """The addresses of the NIC, each with who says so."""
    seen = set()
    for network in snapshot.networks or ():
        for lease in network.leases or ():
            if lease.mac == plug.mac and lease.address not in seen:
                seen.add(lease.address)
                yield lease.address, f"DHCP of network {network.name} has given it away"
    for stack in snapshot.stacks:
        for entry in stack.neighbours or ():
            usable = entry.state not in _USELESS and not entry.proxy
            if entry.mac == plug.mac and usable and entry.address not in seen:
                seen.add(entry.address)
                if not parse_address(entry.address).is_link_local:
                    yield entry.address, f"{stack.name} knows it as its neighbour's"
    if not seen:
        yield from _reserved(snapshot, plug)
        for own in _of_kubevirt(plug):
            yield str(own.ip + 1), f"KubeVirt gives it to the machine behind {plug.bridge}"


def _reserved(snapshot: Snapshot, plug: Plug) -> Iterator[tuple[str, str]]:
    """What DHCP would have given, where nothing tells what it gave.

    A guest that has no lease of a network that is there has not asked for its address.
    """
    for network in snapshot.networks or ():
        if network.active and network.leases is not None:
            continue
        for kept in network.reservations:
            if kept.mac is not None and kept.mac.lower() == plug.mac:
                yield kept.address, f"DHCP of network {network.name} keeps it for this guest"


def network_of(snapshot: Snapshot, plug: Plug, address: str) -> str | None:
    """The network on the bridge of a tap that the address lies in, by the bridge's address."""
    served = (own for network in _served(snapshot, plug) for own in network.addresses)
    bridged = (
        entry.network
        for entry in plug.stack.addresses or ()
        if entry.link in (plug.bridge, plug.tap.name)
    )
    return next((own for own in (*served, *bridged) if _lies_in(address, own)), None)


def gateway_of(
    snapshot: Snapshot, plug: Plug, addresses: list[str], version: int
) -> tuple[str, str] | None:
    """The gateway that DHCP tells the NIC with these addresses of, and whose DHCP."""
    for network in _served(snapshot, plug):
        # In an isolated network DHCP names no gateway.
        for own in network.addresses if network.dhcp and network.mode is not None else ():
            via = ip_interface(own).ip
            if via.version == version and any(_lies_in(address, own) for address in addresses):
                return str(via), f"DHCP of network {network.name}"
    for bridge in _of_kubevirt(plug):
        if bridge.version == version and any(_lies_in(a, str(bridge)) for a in addresses):
            return str(bridge.ip), "KubeVirt's DHCP"
    return None


def _served(snapshot: Snapshot, plug: Plug) -> Iterator[Network]:
    """The libvirt networks on the bridge of a tap."""
    for network in snapshot.networks or ():
        if network.bridge is not None and network.bridge == plug.bridge:
            yield network


def _of_kubevirt(plug: Plug) -> Iterator[IPv4Interface | IPv6Interface]:
    """The addresses of a bridge that KubeVirt made in a pod for masquerade.

    The machine has the next one, and this for its gateway (pkg/network/dhcp).
    """
    if plug.bridge is not None and plug.bridge.startswith(_KUBEVIRT):
        for entry in plug.stack.addresses or ():
            if entry.link == plug.bridge and entry.scope == "global":
                yield ip_interface(entry.network)


def _lies_in(address: str, network: str) -> bool:
    return parse_address(address) in parse_network(network)
