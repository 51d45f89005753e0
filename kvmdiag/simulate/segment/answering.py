"""Whether a stack answers ARP or neighbour discovery for an address.

Sources: arp_process, arp_ignore, arp_filter and arp_fwd_pvlan in net/ipv4/arp.c; ndisc_recv_ns
in net/ipv6/ndisc.c.
"""

from __future__ import annotations

from kvmdiag.model.packet import IPAddress
from kvmdiag.model.trace import Reason
from kvmdiag.simulate.facts.addresses import parse_address, parse_network
from kvmdiag.simulate.facts.fib import Flow
from kvmdiag.simulate.facts.ingress import BadSource, check_source
from kvmdiag.simulate.facts.stack_view import StackView, conf_name


def would_answer(
    view: StackView, link: str, wanted: IPAddress, sender: IPAddress
) -> bool | BadSource:
    """Whether a stack answers for an address when asked on a link (arp_process, ndisc_recv_ns).

    With IPv6 that is only for addresses of that very link. One that would, were it not for its
    settings, says which they are.
    """
    if wanted.version == 6:
        mine = (parse_address(entry.address) for entry in view.addresses_of(link, 6))
        return wanted in mine or _stands_in(view, link, wanted)
    if wanted.is_loopback and not view.conf_any(link, "route_localnet"):
        return False
    # The question is routed as a packet from the asker would be: ip_route_input decides.
    question = Flow(dst=wanted, src=sender, iif=link)
    found = view.fib.lookup(question)
    if found is None or found.refusal is not None:
        return False
    if found.route.type == "local":
        owner = view.local_addresses.get(wanted, link)
        return (
            _kept_quiet(view, link, owner, wanted, sender)
            or check_source(view, link, question, None)
            or True
        )
    if found.route.type != "unicast" or not view.conf(link, "forwarding"):
        return False
    if found.link == link:
        # Who cannot hear each other on one segment (arp_fwd_pvlan): isolated ports, say.
        proxied = bool(view.conf(link, "proxy_arp_pvlan")) and sender != wanted
    else:
        proxied = view.conf_any(link, "proxy_arp") or _is_proxied(view, link, wanted)
    return (check_source(view, link, question, found.link) or True) if proxied else False


def _is_proxied(view: StackView, link: str, wanted: IPAddress) -> bool:
    entry = view.neighbours.get((link, str(wanted)))
    return entry is not None and entry.proxy


def _stands_in(view: StackView, link: str, wanted: IPAddress) -> bool:
    """Whether neighbour discovery is answered for another (``proxy_ndp``, ndisc_recv_ns)."""
    if not _is_proxied(view, link, wanted) or not view.conf(link, "forwarding", 6):
        return False
    return bool(view.conf("all", "proxy_ndp", 6) or view.conf(link, "proxy_ndp", 6))


def _kept_quiet(
    view: StackView, link: str, owner: str, wanted: IPAddress, sender: IPAddress
) -> BadSource | None:
    """The sysctls that keep a stack from answering for an address it has."""
    for key, silent in (("arp_ignore", _ignores(view, link, owner, wanted, sender)),
                        ("arp_filter", _filters(view, link, wanted, sender))):  # fmt: skip
        if silent:
            names = (conf_name("all", key), conf_name(link, key))
            because = f"{wanted} is not answered for on {link}: {key}"
            return BadSource(Reason.UNRESOLVED, because, names)
    return None


def _filters(view: StackView, link: str, wanted: IPAddress, sender: IPAddress) -> bool:
    """``arp_filter``: silent on links by which it would not itself go to the asker."""
    if not view.conf_any(link, "arp_filter"):
        return False
    back = view.fib.lookup(Flow(dst=sender, src=wanted))
    return back is None or back.refusal is not None or back.link != link


def _ignores(view: StackView, link: str, owner: str, wanted: IPAddress, sender: IPAddress) -> bool:
    """``arp_ignore``: whether the address must be on the asked link, or is kept quiet."""
    level = view.conf_max(link, "arp_ignore")
    if level in (1, 2) and owner != link:
        return True
    if level == 2:
        return not any(
            _holds_both(entry.network, wanted, sender) for entry in view.addresses_of(link, 4)
        )
    if level == 3:
        return any(
            parse_address(entry.address) == wanted and entry.scope in ("link", "host")
            for entry in view.addresses
        )
    return level == 8


def _holds_both(network: str, one: IPAddress, other: IPAddress) -> bool:
    span = parse_network(network)
    return one in span and other in span
