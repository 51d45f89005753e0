"""Nobody outside can begin a connection to a guest behind NAT.

Symptom: machines on the LAN cannot reach a NAT guest, while the guest reaches them.
Cause: a NAT network lets only replies in, and the LAN has no route to its private subnet.
Harmless when: it is meant so; only what a port forward names is reachable from outside.
Evidence: a packet from outside to a guest's private address ends at the rule that lets only
    replies in.
Fix: a port forward with an accept rule (libvirt hook), or a routed or bridged network.
Sources: https://libvirt.org/formatnetwork.html, https://wiki.libvirt.org/Networking.html
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import Case, place, rule_fact
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.nets import is_guest_bridge
from kvmdiag.diagnose.rules import source_nats, translates
from kvmdiag.model.report import Severity
from kvmdiag.model.trace import Reason, Stage


@check(severity=Severity.INFO, needs={Facts.LINKS, Facts.TABLES})
def nat_inbound_by_design(case: Case) -> Iterator[Suspicion]:
    """A new connection from outside ends before a network of guests that is translated."""
    stack, rule, end = case.here, case.rule, case.end
    if case.reason is not Reason.NETFILTER or stack is None or rule is None:
        return
    outside = case.walk.question.source.stack is None and case.trace is case.walk.request
    if not outside or end.stage is not Stage.FORWARD or not end.packet.dst.is_private:
        return
    asked = case.walk.question.destination.address
    translated = any(translates(placed.rule, end.packet.dst) for placed in source_nats(stack))
    if not translated or str(end.packet.dst) != asked or not is_guest_bridge(stack, end.out_link):
        return
    yield Suspicion(
        subject=place(stack, end.out_link or "-"),
        summary=f"{end.packet.dst} is behind NAT: connections from outside are not let in by "
        "design; a port forward or a routed network would",
        evidence=(rule_fact(stack, rule),),
        by_design=True,
    )
