"""The pod of a virtual machine does not forward or translate for it.

Symptom: a virtual machine in Kubernetes is cut off.
Cause: forwarding is off in the pod, or its rules could not be made (modules, security policy).
Harmless when: its rules are in the other backend. That the pod has no iptables program says
    nothing.
Evidence: the machine's packet ends in the pod that holds its bridge, for want of forwarding or
    translation.
Fix: what the node denies to the pod: modules, sysctls, policy; then a new pod.
Sources: https://github.com/kubevirt/kubevirt/issues/6820
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import (
    Case,
    sysctl_fact,
)
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.rules import (
    source_nats,
)
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.trace import (
    Reason,
)


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.TABLES, Facts.SYSCTLS})
def kubevirt_launcher_nat_missing(case: Case) -> Iterator[Suspicion]:
    """A packet of a machine passed or ended in its pod untranslated."""
    wrong = (Reason.FORWARDING_OFF, Reason.NO_RETURN_ROUTE)
    for stack in case.stacks if case.reason in wrong else ():
        bridge = next((n for n in stack.links or () if n.name.startswith("k6t-")), None)
        if bridge is None or not any(hop.stack == stack.name for hop in case.walk.request.hops):
            continue
        if any(True for _ in source_nats(stack)) and case.reason is not Reason.FORWARDING_OFF:
            continue
        yield Suspicion(
            subject=stack.name,
            summary=f"{stack.name} does not forward and translate for the machine behind "
            f"{bridge.name}",
            evidence=(
                sysctl_fact(stack, "net.ipv4.ip_forward"),
                Evidence("no translating rule", f"nat tables of {stack.name}"),
            ),
        )
