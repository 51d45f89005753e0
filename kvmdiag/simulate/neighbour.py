"""Who answers ARP or neighbour solicitation for the next hop, and with which MAC address.

Sources: arp_process and arp_ignore in net/ipv4/arp.c; an entry that somebody made permanent
is believed, everything else is asked anew, as the kernel does sooner or later.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvmdiag.model.link import LinkRef
from kvmdiag.model.packet import IPAddress
from kvmdiag.simulate.fib import Flow
from kvmdiag.simulate.ingress import source_is_valid
from kvmdiag.simulate.match import bounds
from kvmdiag.simulate.segment import Obstacle, Reached, reached_from
from kvmdiag.simulate.view import StackView, View, parse_address


@dataclass(frozen=True, slots=True)
class Resolved:
    """The next hop's MAC address. ``owner`` answered, or is ``None``.

    ``outside`` tells that the answer, if any, comes from beyond the snapshot by that link;
    then ``mac`` is what the stack remembers of it.
    """

    mac: str | None
    owner: LinkRef | None = None
    outside: LinkRef | None = None
    static: bool = False


@dataclass(frozen=True, slots=True)
class Silent:
    """Nobody answers; ``obstacle`` keeps the question from the machine that would."""

    obstacle: Obstacle | None


def resolve(
    view: View, stack: str, link: str, next_hop: IPAddress, sender: IPAddress
) -> Resolved | Silent:
    """Ask for ``next_hop`` on ``link`` of ``stack``, in the name of ``sender``."""
    mine = view.stacks[stack]
    entry = mine.neighbours.get((link, str(next_hop)))
    if entry is not None and entry.state in ("permanent", "noarp") and entry.mac is not None:
        return Resolved(entry.mac, static=True)
    opens: list[Reached] = []
    for place in reached_from(view, stack, link):
        if place.opens:
            opens.append(place)
        elif _answers(view.stacks[place.stack], place.link, next_hop, sender):
            mac = view.link(place.stack, place.link).mac
            return Resolved(mac, owner=LinkRef(place.stack, place.link))
    for place in reached_from(view, stack, link, despite_obstacles=True):
        if (
            place.obstacle is not None
            and not place.opens
            and _answers(view.stacks[place.stack], place.link, next_hop, sender)
        ):
            return Silent(place.obstacle)
    if opens:
        remembered = entry.mac if entry is not None else None
        return Resolved(remembered, outside=LinkRef(opens[0].stack, opens[0].link))
    return Silent(_first_obstacle(view, stack, link))


def _first_obstacle(view: View, stack: str, link: str) -> Obstacle | None:
    """When the owner is unknown, at least what keeps the question from getting anywhere."""
    found = list(reached_from(view, stack, link, despite_obstacles=True))
    if any(place.obstacle is None for place in found):
        return None
    return next((place.obstacle for place in found), None)


def _answers(view: StackView, link: str, wanted: IPAddress, sender: IPAddress) -> bool:
    """Whether a stack answers for an address when asked on a link (arp_process)."""
    if wanted.version == 6:
        owner = view.local_addresses.get(wanted)
        return owner == link or (owner is not None and not wanted.is_link_local)
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
            not _ignores(view, link, owner, wanted, sender)
            and not _filters(view, link, wanted, sender)
            and source_is_valid(view, link, question, None)
        )
    if found.route.type != "unicast" or not view.conf(link, "forwarding"):
        return False
    entry = view.neighbours.get((link, str(wanted)))
    proxied = view.conf_any(link, "proxy_arp") or (entry is not None and entry.proxy)
    return (
        proxied and found.link != link and source_is_valid(view, link, question, found.link)
    )


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
            _same_network(entry.network, wanted, sender) for entry in view.addresses_of(link, 4)
        )
    if level == 3:
        return any(
            parse_address(entry.address) == wanted and entry.scope in ("link", "host")
            for entry in view.addresses
        )
    return level == 8


def _same_network(network: str, one: IPAddress, other: IPAddress) -> bool:
    span = bounds(network)
    return span is not None and all(span[1] <= int(a) <= span[2] for a in (one, other))
