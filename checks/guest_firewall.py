"""A firewall inside the guest drops what is sent to it.

Symptom: ping to a guest fails while its neighbours see its MAC address, or one port is dead and
    others are not.
Cause: the guest's own rules: Windows drops ICMP, ufw or firewalld inside lets in only what was
    allowed. With IPv6 a DROP policy without ICMPv6 also drops neighbour discovery, and then
    nobody finds the guest at all.
Harmless when: the service is not meant to be reached from there. A failing ping alone never means
    that a guest is down.
Evidence: the packet, or the question for its next hop, ends in the guest's own input or output
    hook.
Fix: allow it inside the guest.
Sources: iptables(8), nft(8)
"""

from collections.abc import Iterator

import msgspec

from kvmdiag.diagnose.accepting import Accepting, accept_in_front
from kvmdiag.diagnose.case import Case, addresses_of, rule_fact
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.model.report import Severity
from kvmdiag.model.trace import Reason, Stage

_DISCOVERY = (135, 136)  # neighbour solicitation and advertisement, RFC 4861


@check(severity=Severity.WARNING, needs={Facts.TABLES})
def guest_firewall(case: Case) -> Iterator[Suspicion]:
    """A packet ends in the input or output hook of a machine that is not the host."""
    yield from _discovery_dropped(case)
    stack, rule, end = case.here, case.rule, case.end
    if case.reason is not Reason.NETFILTER or stack is None or rule is None:
        return
    hook = {Stage.INPUT: "input", Stage.OUTPUT: "output"}.get(end.stage)
    if hook is None or stack.name == case.snapshot.host or end.packet.dport in (53, 67):
        return
    narrow = Accepting(
        in_link=end.in_link, out_link=end.out_link if hook == "output" else None, packet=end.packet
    )
    remedy = accept_in_front(stack, rule, "input" if hook == "input" else "output", narrow)
    yield Suspicion(
        subject=stack.name,
        summary=f"{stack.name} itself drops {end.packet.describe()} ({hook})",
        evidence=(rule_fact(stack, rule),),
        remedies=((remedy,),) if remedy is not None else (),
    )


def _discovery_dropped(case: Case) -> Iterator[Suspicion]:
    """A machine that drops ARP or neighbour discovery as it comes in."""
    if case.filtered is None or case.end.stage is not Stage.NEIGHBOUR:
        return
    stack, rule = case.filtered
    if stack.name == case.snapshot.host or rule.family not in ("arp", "inet", "ip6"):
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
