"""Rules that keep a machine from being found by its neighbours, or from finding them."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from kvmdiag.diagnose.accepting import Accepting, accept_in_front
from kvmdiag.diagnose.case import Case, addresses_of, rule_fact
from kvmdiag.diagnose.check import Suspicion
from kvmdiag.model.trace import Stage

_FAMILIES = ("arp", "inet", "ip6")
_DISCOVERY = (135, 136)  # neighbour solicitation and advertisement, RFC 4861


def discovery_dropped(case: Case, *, by_host: bool) -> Iterator[Suspicion]:
    """The host, or another machine, that drops ARP or neighbour discovery as it comes in."""
    if case.filtered is None or case.end.stage is not Stage.NEIGHBOUR:
        return
    stack, rule = case.filtered
    if (stack.name == case.snapshot.host) is not by_host or rule.family not in (
        "arp",
        "inet",
        "ip6",
    ):
        return
    links = [
        link.name
        for link in stack.links or ()
        if any(str(own.ip) == case.next_hop for own in addresses_of(stack, link.name))
    ]
    asks = stack.name == case.end.stack
    link = case.end.link if asks else next(iter(links), None)
    packets = (
        (None,)
        if rule.family == "arp"
        else tuple(
            msgspec.structs.replace(case.end.packet, proto="icmpv6", icmp_type=kind, dport=None)
            for kind in _DISCOVERY
        )
    )
    remedies = [
        accept_in_front(stack, rule, "input", Accepting(in_link=link, packet=packet))
        for packet in packets
    ]
    actions = tuple(action for action in remedies if action is not None)
    what = "ARP" if rule.family == "arp" else "neighbour discovery"
    yield Suspicion(
        subject=stack.name,
        summary=f"{stack.name} itself drops {what} about {case.next_hop}",
        evidence=(rule_fact(stack, rule),),
        remedies=(actions,) if actions else (),
    )
