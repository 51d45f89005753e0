"""A rule drops packets that conntrack calls invalid, because it saw one direction only.

Symptom: connections are reset or time out when only one direction crosses this machine.
Cause: conntrack here never saw the beginning: a SYN-ACK without its SYN is invalid, and a rule
    drops what is invalid.
Harmless when: a few invalid packets are late resets of closed connections.
Evidence: the packet ends at a rule for the connection state invalid.
Fix: make both directions cross the machine, or neither; until then accept that flow in front of
    the rule, or leave it untracked (CT --notrack).
Sources: net/netfilter/nf_conntrack_proto_tcp.c,
    https://github.com/kubernetes/kubernetes/issues/94861
"""

from collections.abc import Iterator

from kvmdiag.diagnose.accepting import Accepting, accept_in_front
from kvmdiag.diagnose.case import Case, rule_fact
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.rules import HOOKS, is_for_invalid
from kvmdiag.model.report import Severity
from kvmdiag.model.trace import Reason


@check(severity=Severity.ERROR, needs={Facts.TABLES})
def conntrack_invalid_asymmetric(case: Case) -> Iterator[Suspicion]:
    """A packet ends at a rule for invalid ones."""
    stack, rule, end = case.here, case.rule, case.end
    if case.reason is not Reason.NETFILTER or stack is None or rule is None:
        return
    if end.stage not in HOOKS or not is_for_invalid(stack, rule):
        return
    source, destination = (f"{a}/{a.max_prefixlen}" for a in (end.packet.src, end.packet.dst))
    narrow = Accepting(source=source, destination=destination)
    remedy = accept_in_front(stack, rule, HOOKS[end.stage], narrow)
    yield Suspicion(
        subject=stack.name,
        summary=f"{stack.name} has not seen how this connection began, and drops it as invalid",
        evidence=(rule_fact(stack, rule),),
        remedies=((remedy,),) if remedy is not None else (),
    )
