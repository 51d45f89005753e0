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

from kvmdiag.diagnose.accepting import Accepting, accept_in_front
from kvmdiag.diagnose.case import Case, rule_fact
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.discovery import discovery_dropped
from kvmdiag.model.report import Severity
from kvmdiag.model.trace import Reason, Stage


@check(severity=Severity.WARNING, needs={Facts.TABLES})
def guest_firewall(case: Case) -> Iterator[Suspicion]:
    """A packet ends in the input or output hook of a machine that is not the host."""
    yield from discovery_dropped(case, by_host=False)
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
