"""A port forward is for a link by which the packets do not come in.

Symptom: a port forward died when a NIC was renamed or put into a bridge.
Cause: "-i eth0", and packets now come in by br0.
Harmless when: another rule for the same port matches; or a guest asks for what is forwarded back
    into its own network (hairpin-nat).
Evidence: the packet reaches the machine itself, where nobody listens, and a rule for its port
    names another incoming link.
Fix: the rule by destination address (-d IP) instead of by link, or with the new name.
Sources: iptables-extensions(8) (DNAT)
"""

from collections.abc import Iterator

from kvmdiag.actions.rule import InsertRule
from kvmdiag.diagnose.case import Case, place, rule_fact
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.forwards import forwards_elsewhere
from kvmdiag.model.report import Severity
from kvmdiag.model.trace import Reason


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.ADDRESSES, Facts.TABLES})
def dnat_iface_mismatch(case: Case) -> Iterator[Suspicion]:
    """Nobody listens, and a rule for the port wants another incoming link."""
    stack, end = case.here, case.end
    if case.reason is not Reason.NO_LISTENER or stack is None or end.in_link is None:
        return
    if case.walk.question.source.stack == stack.name:
        return
    for forward in forwards_elsewhere(case, stack):
        if forward.is_back_into(stack, end.in_link):
            continue
        insert = InsertRule(
            stack=stack.name,
            table="nat",
            chain=forward.placed.chain.name,
            rule=forward.text.replace(f"-i {forward.link}", f"-i {end.in_link}"),
            backend=forward.placed.table.backend,
        )
        yield Suspicion(
            subject=place(stack, end.in_link),
            summary=f"port {end.packet.dport} is forwarded for what comes in by {forward.link}; "
            f"this came in by {end.in_link}",
            evidence=(rule_fact(stack, forward.placed.ref(stack)),),
            remedies=((insert,),),
        )
