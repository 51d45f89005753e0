"""Docker keeps everybody but its own bridge from a container's address.

Symptom: a guest cannot reach a container's own address, while its published port works.
Cause: since version 28 Docker drops, in the table raw, what comes for a container from any other
    link.
Harmless when: it is meant so: direct routing to containers was never promised.
Evidence: the packet ends at a rule of raw PREROUTING for that address and "not its bridge".
Fix: publish the port; or gateway_mode_ipv4=nat-unprotected, or "allow-direct-routing" for the
    network.
Sources: https://docs.docker.com/engine/network/packet-filtering-firewalls/,
    https://github.com/moby/moby/pull/49792
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import Case, chain_of, place, rule_fact
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.model.matches import InterfaceIs
from kvmdiag.model.report import Severity
from kvmdiag.model.trace import Reason


@check(severity=Severity.INFO, needs={Facts.TABLES})
def docker_raw_drop_to_container(case: Case) -> Iterator[Suspicion]:
    """A packet ends in raw PREROUTING at a rule that wants another incoming link."""
    stack, rule = case.here, case.rule
    if case.reason is not Reason.NETFILTER or stack is None or rule is None:
        return
    chain = chain_of(stack, rule)
    if rule.table != "raw" or rule.index is None or chain is None:
        return
    body = chain.rules[rule.index].body
    unwanted = [p for p in body if isinstance(p, InterfaceIs) and p.negate and p.direction == "in"]
    if not unwanted:
        return
    yield Suspicion(
        subject=place(stack, unwanted[0].names[0]),
        summary=f"Docker lets nobody reach {case.end.packet.dst} but by {unwanted[0].names[0]}: "
        "containers are reached by published ports",
        evidence=(rule_fact(stack, rule),),
        by_design=True,
    )
