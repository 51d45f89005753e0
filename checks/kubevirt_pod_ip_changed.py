"""A virtual machine in Kubernetes is asked for by an address it no longer has.

Symptom: the address that worked is dead after a restart or migration of the virtual machine.
Cause: with masquerade the machine is behind its pod's address, and a new pod has a new one.
Harmless when: it is meant so: use a Service.
Evidence: the destination is nobody's here, and there are pods of virtual machines.
Fix: a Service; or read the new address: kubectl get vmi -o wide.
Sources: https://kubevirt.io/user-guide/network/interfaces_and_networks/
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import Case
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.trace import Reason, RouteRef


@check(severity=Severity.INFO, needs={Facts.LINKS, Facts.ADDRESSES})
def kubevirt_pod_ip_changed(case: Case) -> Iterator[Suspicion]:
    """A path to nobody, on a host with launcher pods."""
    if case.walk.question.destination.stack is not None:
        return
    pods = [s for s in case.stacks if any(n.name.startswith("k6t-") for n in s.links or ())]
    if not pods or case.reason not in (Reason.UNRESOLVED, Reason.NO_ROUTE):
        return
    target = case.walk.question.destination.address
    routes = [hop.decider for hop in case.trace.hops if isinstance(hop.decider, RouteRef)]
    if routes and "via" in routes[-1].text.split():
        return  # it is a router that does not answer
    yield Suspicion(
        subject=str(target),
        summary=f"{target} is nobody's here; a virtual machine gets a new address with each new "
        f"pod",
        evidence=tuple(Evidence(f"pod {pod.name}", "network namespaces") for pod in pods[:3]),
        proof="kubectl get vmi -A -o wide: is the address another one now?",
    )
