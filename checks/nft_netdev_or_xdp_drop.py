"""A packet is dropped at the device itself, before any table that iptables shows.

Symptom: packets are seen to arrive and are gone, and no rule of iptables counts them.
Cause: an nft chain of the family netdev, a tc filter or an XDP program (Cilium, a DDoS filter)
    drops them at ingress.
Harmless when: an XDP program that passes packets on is merely there.
Evidence: the packet ends in a chain of the family netdev.
Fix: an accept in front, or take the chain away where its owner does not need it.
Sources: nft(8) (netdev), https://docs.kernel.org/networking/filter.html
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import (
    Case,
    place,
    rule_fact,
)
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.rules import (
    Accepting,
    accept_in_front,
)
from kvmdiag.model.report import Severity
from kvmdiag.model.trace import (
    Reason,
)


@check(severity=Severity.ERROR, needs={Facts.TABLES})
def nft_netdev_or_xdp_drop(case: Case) -> Iterator[Suspicion]:
    """A packet ends in a netdev chain."""
    stack, rule, end = case.here, case.rule, case.end
    if case.reason is not Reason.NETFILTER or stack is None or rule is None:
        return
    if rule.family != "netdev":
        return
    source = f"{end.packet.src}/{end.packet.src.max_prefixlen}"
    remedy = accept_in_front(stack, rule, "ingress", Accepting(source=source))
    yield Suspicion(
        subject=place(stack, end.link or "-"),
        summary=f"{stack.name} drops the packet at {end.link} itself, before its firewall",
        evidence=(rule_fact(stack, rule),),
        remedies=((remedy,),) if remedy is not None else (),
    )
