"""Guests of two NAT networks cannot reach each other, as libvirt means it.

Symptom: a guest on one NAT network gets "port unreachable" from the gateway of the other.
Cause: libvirt rejects every new connection into a NAT network, from other guests as well.
Harmless when: it is meant so: a NAT network is closed from outside, and another network is
    outside.
Evidence: a packet routed from one guests' bridge to another ends at libvirt's rule for that
    bridge.
Fix: a routed or open network for guests that are to meet, or one network for both; else accept
    rules both ways from a libvirt hook.
Sources: https://libvirt.org/firewall.html
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import Case, place, rule_fact
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.nets import connected, is_guest_bridge
from kvmdiag.model.report import Severity
from kvmdiag.model.trace import Reason, Stage


@check(severity=Severity.INFO, needs={Facts.LINKS, Facts.TABLES})
def nat_to_nat_blocked(case: Case) -> Iterator[Suspicion]:
    """A packet from one guests' bridge to another ends at a rule of libvirt's."""
    stack, rule, end = case.here, case.rule, case.end
    if case.reason is not Reason.NETFILTER or stack is None or rule is None:
        return
    if not (rule.chain.startswith("LIBVIRT_FW") or rule.table == "libvirt_network"):
        return
    both = is_guest_bridge(stack, end.in_link) and is_guest_bridge(stack, end.out_link)
    if end.stage is not Stage.FORWARD or not both or end.in_link == end.out_link:
        return
    if not any(end.packet.src in network for network in connected(stack, end.in_link or "")):
        return  # a foreign source is kept in, wherever it would go
    yield Suspicion(
        subject=place(stack, end.out_link or "-"),
        summary=f"libvirt keeps new connections from {end.in_link} out of {end.out_link}: "
        "two NAT networks do not reach each other by design",
        evidence=(rule_fact(stack, rule),),
        by_design=True,
    )
