"""Only the ports that a virtual machine's definition lists reach it.

Symptom: some ports of a virtual machine in Kubernetes are open and others are refused.
Cause: "ports" in the interface's definition limits what its pod forwards.
Harmless when: no list means all ports.
Evidence: the packet ends in the pod, whose forwarding rules name other ports.
Fix: add the port to the definition.
Sources: https://kubevirt.io/user-guide/network/interfaces_and_networks/
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import Case
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.rules import destination_nats
from kvmdiag.model.matches import PortIs
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.trace import Reason


@check(severity=Severity.INFO, needs={Facts.LINKS, Facts.TABLES})
def kubevirt_ports_list(case: Case) -> Iterator[Suspicion]:
    """A packet ends in a pod that forwards other ports."""
    stack, port = case.here, case.end.packet.dport
    if stack is None or port is None or case.reason not in (Reason.NO_LISTENER, Reason.NETFILTER):
        return
    if not any(link.name.startswith("k6t-") for link in stack.links or ()):
        return
    listed = {
        number_
        for placed in destination_nats(stack)
        for part in placed.rule.body
        if isinstance(part, PortIs) and part.side == "dst"
        for number_, _ in part.ranges
    }
    if listed and port not in listed:
        yield Suspicion(
            subject=stack.name,
            summary=f"{stack.name} forwards ports {', '.join(map(str, sorted(listed)))}, not "
            f"{port}",
            evidence=(Evidence("its forwarding rules", f"nat tables of {stack.name}"),),
            by_design=True,
        )
