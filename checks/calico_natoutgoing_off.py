"""Calico does not translate what leaves the cluster.

Symptom: pods and their virtual machines have no Internet; within the cluster all works.
Cause: the address pool has natOutgoing: false.
Harmless when: the pool's addresses are routable outside.
Evidence: a packet leaves with a pod's address, Calico's chains are there, and none of them
    translates pools.
Fix: kubectl patch ippool NAME --type merge -p '{"spec":{"natOutgoing":true}}'
Sources: https://docs.tigera.io/calico/latest/networking/configuring/workloads-outside-cluster
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import (
    Case,
    place,
)
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.rules import (
    has_chain,
    rules_of,
)
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.trace import (
    Reason,
)


@check(severity=Severity.ERROR, needs={Facts.TABLES})
def calico_natoutgoing_off(case: Case) -> Iterator[Suspicion]:
    """An untranslated packet has left a node with Calico's chains and no masquerade of theirs."""
    last = case.walk.request.end
    stack = case.stack(last.stack)
    if case.reason is not Reason.NO_RETURN_ROUTE or stack is None or not has_chain(stack, "cali-"):
        return
    if any("cali40masq" in placed.rule.text for placed in rules_of(stack)):
        return
    yield Suspicion(
        subject=place(stack, last.link or "-"),
        summary=f"{last.packet.src} leaves untranslated: no pool of Calico's has natOutgoing",
        evidence=(Evidence("no rule for cali40masq-ipam-pools", f"nat tables of {stack.name}"),),
    )
