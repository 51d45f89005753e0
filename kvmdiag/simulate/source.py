"""Which of its own addresses a stack uses (``inet_select_addr`` in net/ipv4/devinet.c)."""

from __future__ import annotations

from ipaddress import ip_network

from kvmdiag.model.packet import IPAddress
from kvmdiag.model.stack import Address
from kvmdiag.simulate.view import StackView, parse_address


def select_address(view: StackView, link: str, toward: IPAddress) -> IPAddress | None:
    """The address to speak with on ``link`` towards a neighbour or a destination.

    The first primary address in whose network ``toward`` lies, else the first on the link,
    else the first of any link; ``None`` when the stack has no address of that version.
    """
    mine = [a for a in view.addresses_of(link, toward.version) if _usable(a, toward)]
    for entry in mine:
        if toward in ip_network(entry.network, strict=False):
            return parse_address(entry.address)
    if mine:
        return parse_address(mine[0].address)
    for entry in view.addresses:
        address = parse_address(entry.address)
        if address.version == toward.version and entry.scope == "global" and _usable(entry, toward):
            return address
    return None


def _usable(entry: Address, toward: IPAddress) -> bool:
    if entry.scope == "host" or entry.secondary:
        return False
    # An IPv6 link-local address speaks only to link-local neighbours (RFC 6724, rule 2).
    address = parse_address(entry.address)
    return address.version == 4 or address.is_link_local == toward.is_link_local
