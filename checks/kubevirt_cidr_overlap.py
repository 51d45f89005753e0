"""A virtual machine looks for an address on its own link that is really elsewhere.

Symptom: a virtual machine in Kubernetes cannot reach a real 10.0.2.0/24.
Cause: that range is what KubeVirt uses between pod and machine, unless vmNetworkCIDR says
    otherwise.
Harmless when: nothing real is in that range.
Evidence: the destination is in the network between pod and machine, and nobody there has it.
Fix: vmNetworkCIDR in the definition.
Sources: https://kubevirt.io/user-guide/network/interfaces_and_networks/
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import Case, address_fact, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.nets import connected
from kvmdiag.model.report import Severity
from kvmdiag.model.trace import Stage


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.ADDRESSES})
def kubevirt_cidr_overlap(case: Case) -> Iterator[Suspicion]:
    """An address of the inner network that nobody has is asked for."""
    if case.end.stage is not Stage.NEIGHBOUR:
        return
    target = case.end.packet.dst
    for stack in case.stacks:
        for link in stack.links or ():
            inner = link.name.startswith("k6t-") and link.kind == "bridge"
            if inner and any(target in network for network in connected(stack, link.name)):
                yield Suspicion(
                    subject=place(stack, link.name),
                    summary=f"{target} is in the network between {stack.name} and its machine, and "
                    "is looked for there",
                    evidence=(address_fact(stack, link.name),),
                )
