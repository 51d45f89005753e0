"""Calico does not translate what leaves the cluster.

Symptom: pods and their virtual machines have no Internet; within the cluster all works.
Cause: the address pool has natOutgoing: false.
Harmless when: the pool's addresses are routable outside.
Evidence: a packet leaves with a pod's address, Calico's chains are there, and none of them
    translates pools.
Fix: kubectl patch ippool NAME --type merge -p '{"spec":{"natOutgoing":true}}'; until then a rule
    of one's own on the node.
Sources: https://docs.tigera.io/calico/latest/networking/configuring/workloads-outside-cluster
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import Case, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.translation import calico_leaves_pods_as_they_are, subnet_behind, translating
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.trace import Reason

_KEPT_BY = """kubectl patch ippool NAME --type merge -p '{"spec":{"natOutgoing":true}}'"""


@check(severity=Severity.ERROR, needs={Facts.TABLES})
def calico_natoutgoing_off(case: Case) -> Iterator[Suspicion]:
    """An untranslated packet has left a node with Calico's chains and no masquerade of theirs."""
    last = case.walk.request.end
    if case.reason is not Reason.NO_RETURN_ROUTE or not last.packet.src.is_private:
        return
    for stack, hop in case.routers():
        if stack.name != last.stack or not calico_leaves_pods_as_they_are(stack, hop.in_link):
            continue
        yield Suspicion(
            subject=place(stack, last.link or "-"),
            summary=f"{last.packet.src} leaves untranslated: no pool of Calico's has natOutgoing",
            evidence=(
                Evidence("no rule of cali-nat-outgoing", f"nat tables of {stack.name}"),
                Evidence(f"the packet came by {hop.in_link}", f"ip route in {stack.name}"),
            ),
            remedies=translating(stack, subnet_behind(stack, hop, last.packet.src), _KEPT_BY),
            at=hop,
        )
