"""What a rule that translates asks for, once a packet has come to it.

Sources: nf_nat_masquerade.c, nf_nat_redirect.c and xt_NETMAP.c in net/netfilter.
"""

from __future__ import annotations

from ipaddress import ip_network

from kvmdiag.model.packet import IPAddress, Packet
from kvmdiag.model.statements import (
    DestinationNat,
    Masquerade,
    NetMap,
    Redirect,
    SourceNat,
    Translation,
)
from kvmdiag.simulate.facts.addresses import parse_address
from kvmdiag.simulate.facts.conntrack import Manipulation
from kvmdiag.simulate.facts.source import select_address
from kvmdiag.simulate.facts.stack_view import StackView
from kvmdiag.simulate.facts.translation import Wanted
from kvmdiag.simulate.rules.context import Context


def asked_for(
    nat: Translation,
    at: Context,
    packet: Packet,
    manipulation: Manipulation,
    next_hop: IPAddress | None,
) -> Wanted | None:
    """What a translation may lead to; ``None`` when there is no address to take.

    ``packet`` is the packet as the rule sees it, ``next_hop`` where it goes on its link.
    """
    if isinstance(nat, SourceNat | DestinationNat) and nat.first is not None:
        first, last = parse_address(nat.first), parse_address(nat.last or nat.first)
        return Wanted(first, last, nat.ports, nat.random, nat.persistent)
    address = _target(nat, at, packet, manipulation, next_hop)
    if address is None:
        return None
    if isinstance(nat, NetMap):
        return Wanted(address, address)
    return Wanted(address, address, nat.ports, nat.random)


def _target(
    nat: Translation,
    at: Context,
    packet: Packet,
    manipulation: Manipulation,
    next_hop: IPAddress | None,
) -> IPAddress | None:
    """The one address a translation leads to, if there is one."""
    match nat:
        case SourceNat() | DestinationNat():
            return packet.dst  # nothing but the port
        case NetMap():
            return _mapped(nat.network, packet.src if manipulation == "source" else packet.dst)
        case Masquerade():
            # nf_nat_masquerade_ipv4 looks at the gateway, nf_nat_masquerade_ipv6 does not.
            toward = packet.dst if packet.version == 6 else next_hop or packet.dst
            return select_address(at.view, at.out_link or "lo", toward)
        case Redirect():
            if at.hook == "output":
                return parse_address("127.0.0.1" if packet.version == 4 else "::1")
            return _first_address(at.view, at.in_link or "lo", packet.version)


def _mapped(network: str, address: IPAddress) -> IPAddress:
    """The address with another network part (netmap_tg4)."""
    to = ip_network(network, strict=False)
    host = int(address) & int(to.hostmask)
    return parse_address(str(to.network_address + host))


def _first_address(view: StackView, link: str, version: int) -> IPAddress | None:
    """Where REDIRECT leads: never to another link's address (nf_nat_redirect_ipv4)."""
    found = next(iter(view.addresses_of(link, version)), None)
    return parse_address(found.address) if found is not None else None
