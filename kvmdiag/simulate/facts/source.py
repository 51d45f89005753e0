"""Which of its own addresses a stack uses.

Sources: inet_select_addr in net/ipv4/devinet.c; ipv6_get_saddr_eval in net/ipv6/addrconf.c with
the labels of net/ipv6/addrlabel.c (RFC 6724, section 5).
"""

from __future__ import annotations

from kvmdiag.model.packet import IPAddress
from kvmdiag.model.stack import Address
from kvmdiag.simulate.facts.addresses import parse_address, parse_network
from kvmdiag.simulate.facts.stack_view import StackView

# The narrowest that holds an address counts.
_LABELS = tuple(
    (parse_network(network), label)
    for network, label in (
        ("::1/128", 0),
        ("::/96", 3),
        ("::ffff:0:0/96", 4),
        ("2001::/32", 6),
        ("2001:10::/28", 7),
        ("2002::/16", 2),
        ("fc00::/7", 5),
        ("::/0", 1),
    )
)


def select_address(
    view: StackView, link: str, toward: IPAddress | None, *, version: int | None = None
) -> IPAddress | None:
    """The address to speak with on ``link`` towards a neighbour.

    The first primary address in whose network ``toward`` lies, else the first on the link,
    else the first of any link; ``None`` when the stack has no address of that version.
    ``version`` is needed only where there is no neighbour to speak to.
    """
    version = toward.version if toward is not None else version or 4
    if version == 6 and toward in view.local_addresses:
        return toward  # rule 1: to oneself
    mine = [a for a in view.addresses_of(link, version) if _usable(a, toward)]
    if toward is not None and version == 6 and mine:
        # max() keeps the first of equals, as the kernel does.
        return parse_address(max(mine, key=lambda entry: _merit(entry, toward)).address)
    for entry in mine:
        if toward is not None and toward in parse_network(entry.network):
            return parse_address(entry.address)
    if mine:
        return parse_address(mine[0].address)
    others = [
        entry
        for entry in view.addresses
        if entry.scope == "global"
        and parse_address(entry.address).version == version
        and _usable(entry, toward)
    ]
    if toward is not None and version == 6 and others:
        return parse_address(max(others, key=lambda entry: _merit(entry, toward)).address)
    return parse_address(others[0].address) if others else None


def asking_address(view: StackView, link: str, wanted: IPAddress, source: IPAddress) -> IPAddress:
    """In whose name a stack asks for a neighbour, to send it a packet from ``source``.

    Sources: arp_solicit in net/ipv4/arp.c (``arp_announce``); ndisc_solicit in net/ipv6/ndisc.c.
    """
    if wanted.version == 6:
        mine = [parse_address(entry.address) for entry in view.addresses_of(link, 6)]
        near_ones = (address for address in mine if address.is_link_local)
        return source if source in mine else next(near_ones, source)
    announce = view.conf_max(link, "arp_announce")
    near = announce == 0 or (announce == 1 and _share_network(view, link, source, wanted))
    if near and source in view.local_addresses:
        return source
    return select_address(view, link, wanted) or source


def _share_network(view: StackView, link: str, one: IPAddress, other: IPAddress) -> bool:
    spans = (parse_network(a.network) for a in view.addresses_of(link, one.version))
    return any(one in span and other in span for span in spans)


def _merit(entry: Address, toward: IPAddress) -> tuple[bool, bool, int]:
    """How well an IPv6 address suits a destination: rules 3, 6 and 8 of RFC 6724."""
    address = parse_address(entry.address)
    alike = address.max_prefixlen - (int(address) ^ int(toward)).bit_length()
    return (
        "deprecated" not in entry.flags,
        _label(address) == _label(toward),
        min(alike, entry.prefix_length),
    )


def _label(address: IPAddress) -> int:
    return next(label for network, label in _LABELS if address in network)


def _usable(entry: Address, toward: IPAddress | None) -> bool:
    if entry.scope == "host" or entry.secondary:
        return False
    # An IPv6 link-local address speaks only to link-local neighbours (RFC 6724, rule 2).
    address = parse_address(entry.address)
    if address.version == 4:
        return True
    return address.is_link_local == (toward is not None and toward.is_link_local)
