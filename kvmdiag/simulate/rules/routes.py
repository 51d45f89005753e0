"""What rules ask the routing tables: the type of an address, and the way back to a source.

Sources: net/ipv4/fib_frontend.c (__inet_dev_addr_type), net/netfilter/xt_addrtype.c,
net/ipv4/netfilter/ipt_rpfilter.c and nft_fib_ipv4.c.
"""

from __future__ import annotations

from kvmdiag.model.matches import ReverseRouteIs
from kvmdiag.model.packet import IPAddress
from kvmdiag.simulate.facts.fib import Fib, Flow
from kvmdiag.simulate.rules.context import Seen


def address_type(address: IPAddress, fib: Fib, link: str | None) -> str:
    """The kernel's type of an address: local, unicast, broadcast ...

    With ``link``, only what is on that link counts (``inet_dev_addr_type``).
    """
    if address.is_multicast:
        return "multicast"
    found = fib.lookup(Flow(dst=address))
    if found is None:
        return "unreachable" if address.version == 6 else "unicast"
    if found.route.type == "unicast" or (link is not None and found.link != link):
        return "unicast"
    return found.route.type


def reverse_route(seen: Seen, wanted: ReverseRouteIs) -> str | None:
    """The link by which this stack itself would go to the packet's source (or destination).

    ``None`` when it would not, or, if that is wanted, not by the link it came in by.
    """
    packet, link = seen.packet, seen.in_link
    if link is not None and seen.at.view.links[link].is_loopback:
        return link
    source, other = packet.src, packet.dst
    if wanted.side == "dst":
        source, other = other, source
    mark = seen.mark if wanted.mark else 0
    found = seen.at.view.fib.lookup(Flow(dst=source, src=other, mark=mark))
    if found is None:
        return None
    if found.route.type != "unicast":
        local = found.route.type == "local" and wanted.accept_local
        return found.link if local else None
    if not wanted.strict:
        return found.link
    return link if any(hop.link == link for hop in found.route.next_hops) else None
