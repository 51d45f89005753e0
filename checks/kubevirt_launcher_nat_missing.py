"""The pod of a virtual machine does not translate for it.

Symptom: a virtual machine in Kubernetes is cut off.
Cause: the pod's rules could not be made (modules, security policy), or were flushed.
Harmless when: its rules are in the other backend. That the pod has no iptables program says
    nothing.
Evidence: the machine's packet goes on from the pod that holds its bridge with the machine's own
    address, which nobody beyond knows, and no rule of the pod translates anything.
Fix: what the node denies to the pod: modules, sysctls, policy; then a new pod. Until then the
    translation can be put into the pod's namespace by hand.
Sources: https://github.com/kubevirt/kubevirt/issues/6820
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import Case, sysctl_fact
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.translation import (
    launcher_lost_its_rules,
    pods_bridge,
    subnet_behind,
    translating,
)
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.trace import Reason

_KEPT_BY = "KubeVirt makes the rule for each new pod, once the node lets it"
_REFUSED = (Reason.NO_RETURN_ROUTE, Reason.RP_FILTER, Reason.NETFILTER)


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.TABLES, Facts.SYSCTLS})
def kubevirt_launcher_nat_missing(case: Case) -> Iterator[Suspicion]:
    """A packet of a machine went untranslated through its pod, and that was the trouble."""
    if case.reason not in _REFUSED:
        return
    for stack, hop in case.routers():
        if hop.in_link != pods_bridge(stack) or not launcher_lost_its_rules(stack):
            continue
        source = hop.packet.src
        yield Suspicion(
            subject=stack.name,
            summary=f"{stack.name} does not translate {source}, the machine behind {hop.in_link}",
            evidence=(
                Evidence("no translating rule", f"nat tables of {stack.name}"),
                sysctl_fact(stack, "net.ipv4.ip_forward"),
            ),
            remedies=translating(stack, subnet_behind(stack, hop, source), _KEPT_BY),
            at=hop,
        )
