"""A forwarded port was tried from the host itself, where the rule does not apply.

Symptom: curl localhost:8080 on the host is refused, and from another machine it works.
Cause: the host's own packets do not pass PREROUTING, where the rule is.
Harmless when: it is a mistake of the test, and no fault.
Evidence: the host asks for its own address and port, and a rule of PREROUTING forwards that port.
Fix: try from outside; or a rule in OUTPUT as well.
Sources: https://www.netfilter.org/documentation/HOWTO/NAT-HOWTO-6.html
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import Case, rule_fact
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.rules import could_match, destination_nats
from kvmdiag.model.report import Severity
from kvmdiag.model.trace import Reason


@check(severity=Severity.INFO, needs={Facts.TABLES})
def dnat_local_test(case: Case) -> Iterator[Suspicion]:
    """Nobody listens on the host for what only others get forwarded."""
    stack, packet = case.here, case.end.packet
    if case.reason is not Reason.NO_LISTENER or stack is None or packet.dport is None:
        return
    if case.walk.question.source.stack != stack.name:
        return
    for placed in destination_nats(stack):
        if placed.chain.hook != "output" and could_match(placed.rule, packet, "-any-", None):
            yield Suspicion(
                subject=stack.name,
                summary=f"port {packet.dport} is forwarded for others; {stack.name}'s own packets "
                "do not pass that rule",
                evidence=(rule_fact(stack, placed.ref(stack)),),
                by_design=True,
            )
            return
