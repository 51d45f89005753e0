"""A packet is dropped at the device itself, before any table that iptables shows.

Symptom: packets are seen to arrive and are gone, and no rule of iptables counts them.
Cause: an nft chain of the family netdev, a tc filter or an XDP program (Cilium, a DDoS filter)
    drops them at ingress.
Harmless when: an XDP program that passes packets on is merely there.
Evidence: the packet, or the ARP question for its next hop, ends in a chain of the family netdev.
Fix: an accept in front, or take the chain away where its owner does not need it.
Sources: nft(8) (netdev), https://docs.kernel.org/networking/filter.html
"""

from collections.abc import Iterator

from kvmdiag.actions.nft import InsertNftRule
from kvmdiag.diagnose.accepting import Accepting, accept_in_front
from kvmdiag.diagnose.case import Case, chain_of, place, rule_fact
from kvmdiag.diagnose.check import Facts, Remedy, Suspicion, check
from kvmdiag.model.matches import FamilyIs
from kvmdiag.model.report import Severity
from kvmdiag.model.stack import Stack
from kvmdiag.model.statements import Accept
from kvmdiag.model.trace import RuleRef


@check(severity=Severity.ERROR, needs={Facts.TABLES})
def nft_netdev_or_xdp_drop(case: Case) -> Iterator[Suspicion]:
    """A packet, or the question for its next hop, ends in a netdev chain."""
    if case.filtered is None or case.filtered[1].family != "netdev":
        return
    stack, rule = case.filtered
    chain = chain_of(stack, rule)
    devices = chain.devices if chain is not None else ()
    device = devices[0] if len(devices) == 1 else case.end.link or "-"
    yield Suspicion(
        subject=place(stack, device),
        summary=f"{stack.name} drops the packet at {device} itself, before its firewall",
        evidence=(rule_fact(stack, rule),),
        remedies=tuple(_remedies(case, stack, rule)),
    )


def _remedies(case: Case, stack: Stack, rule: RuleRef) -> Iterator[Remedy]:
    """An accept for the sender; with one for ARP where it was ARP that was dropped."""
    sources = dict.fromkeys((case.end.packet.src, case.end.packet.dst))
    accepts = [
        accept_in_front(stack, rule, "ingress", Accepting(source=f"{a}/{a.max_prefixlen}"))
        for a in sources
    ]
    found = tuple(action for action in accepts if action is not None)
    first = found[0] if found else None
    if not isinstance(first, InsertNftRule):
        return
    if case.next_hop is None:
        yield (first,)
        return
    arp = InsertNftRule(
        stack=stack.name,
        family=first.family,
        table=first.table,
        chain=first.chain,
        text="ether type arp accept",
        body=(FamilyIs(families=("arp",)), Accept()),
    )
    yield (*found, arp)
