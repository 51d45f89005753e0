"""Which neighbours of a machine could route for it, as far as the snapshot shows."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_interface, ip_network

from kvmdiag.diagnose.case import Case, Interface, addresses_of, forwards
from kvmdiag.model.matches import AddressIs
from kvmdiag.model.stack import Stack
from kvmdiag.model.statements import Masquerade, SourceNat


def possible_gateways(case: Case, stack: Stack, version: int) -> tuple[tuple[str, str], ...]:
    """Link and address of every machine that could route for this one, the plainest first."""
    found = sorted(_ranked(case, stack, version), key=lambda ranked: ranked[0])
    return tuple((link, address) for _, link, address in found)


def _ranked(case: Case, stack: Stack, version: int) -> Iterator[tuple[int, str, str]]:
    """Rank, link and address of every machine that could route for this one."""
    for link in stack.links or ():
        if not link.up:
            continue
        own = [a for a in addresses_of(stack, link.name) if a.version == version]
        for segment in case.segments(link):
            for machine, address in case.neighbours_on(*segment):
                if machine.name == stack.name or not any(address.ip in a.network for a in own):
                    continue
                rank = _rank(case, machine, address)
                if rank is not None:
                    yield rank, link.name, str(address.ip)


def _rank(case: Case, machine: Stack, address: Interface) -> int | None:
    """How plainly a machine is the router of this subnet; ``None`` when it is none.

    A router has another network to route to. The best witness is a neighbour that uses it,
    then address translation for the subnet, then that it forwards at all.
    """
    link = next(a.link for a in machine.addresses or () if a.address == str(address.ip))
    elsewhere = any(
        other.link != link and not other.address.startswith(("127.", "::1", "fe80:"))
        for other in machine.addresses or ()
    )
    if not elsewhere or _is_isolated(case, address):
        return None
    used = any(
        hop.gateway == str(address.ip)
        for other in case.stacks
        for route in other.routes or ()
        for hop in route.next_hops
    )
    if used:
        return 0
    if _translates(machine, address):
        return 1
    if not forwards(machine, link, address.version):
        return 4
    return 3 if machine.name == case.snapshot.host else 2


def _is_isolated(case: Case, address: Interface) -> bool:
    """Whether libvirt means this network to have no way out."""
    return any(
        network.mode is None and any(ip_interface(a).ip == address.ip for a in network.addresses)
        for network in case.snapshot.networks or ()
    )


def _translates(machine: Stack, address: Interface) -> bool:
    """Whether a nat rule of this machine is made for the subnet."""
    for table in machine.tables or ():
        for chain in table.chains:
            for rule in chain.rules:
                sources = [part for part in rule.body if isinstance(part, AddressIs)]
                if any(isinstance(part, Masquerade | SourceNat) for part in rule.body) and any(
                    part.side == "src" and not part.negate and _covers(part.networks, address)
                    for part in sources
                ):
                    return True
    return False


def _covers(networks: tuple[str, ...], address: Interface) -> bool:
    return any(
        "-" not in text and address.ip in ip_network(text, strict=False) for text in networks
    )
