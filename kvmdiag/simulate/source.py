"""Which of its own addresses a stack uses (``inet_select_addr`` in net/ipv4/devinet.c)."""

from __future__ import annotations

from kvmdiag.model.packet import IPAddress
from kvmdiag.model.stack import Address
from kvmdiag.simulate.view import StackView, parse_address, parse_network


def select_address(
    view: StackView, link: str, toward: IPAddress | None, *, version: int | None = None
) -> IPAddress | None:
    """The address to speak with on ``link`` towards a neighbour.

    The first primary address in whose network ``toward`` lies, else the first on the link,
    else the first of any link; ``None`` when the stack has no address of that version.
    ``version`` is needed only where there is no neighbour to speak to.
    """
    version = toward.version if toward is not None else version or 4
    mine = [a for a in view.addresses_of(link, version) if _usable(a, toward)]
    for entry in mine:
        if toward is not None and toward in parse_network(entry.network):
            return parse_address(entry.address)
    if mine:
        return parse_address(mine[0].address)
    for entry in view.addresses:
        address = parse_address(entry.address)
        if address.version == version and entry.scope == "global" and _usable(entry, toward):
            return address
    return None


def asking_address(view: StackView, link: str, wanted: IPAddress, source: IPAddress) -> IPAddress:
    """In whose name a stack asks for a neighbour, to send it a packet from ``source``.

    Source: arp_solicit in net/ipv4/arp.c (``arp_announce``).
    """
    announce = view.conf_max(link, "arp_announce") if wanted.version == 4 else 0
    near = announce == 0 or (announce == 1 and _share_network(view, link, source, wanted))
    if near and source in view.local_addresses:
        return source
    return select_address(view, link, wanted) or source


def _share_network(view: StackView, link: str, one: IPAddress, other: IPAddress) -> bool:
    spans = (parse_network(a.network) for a in view.addresses_of(link, one.version))
    return any(one in span and other in span for span in spans)


def _usable(entry: Address, toward: IPAddress | None) -> bool:
    if entry.scope == "host" or entry.secondary:
        return False
    # An IPv6 link-local address speaks only to link-local neighbours (RFC 6724, rule 2).
    address = parse_address(entry.address)
    if address.version == 4:
        return True
    return address.is_link_local == (toward is not None and toward.is_link_local)
