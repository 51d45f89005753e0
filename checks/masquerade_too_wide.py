"""A rule also translates what guests of one network send to each other.

Symptom: guests see each other with the host's address; with forwarding off or no address on the
    bridge they lose each other.
Cause: "-s NET -j MASQUERADE" (or SNAT) without "! -d NET" or "-o UPLINK", while br_netfilter
    shows bridged frames to iptables.
Harmless when: br_netfilter is off: then the rule never sees what is bridged. "-o UPLINK" is
    restriction enough.
Evidence: a bridged packet between two guests has its source rewritten.
Fix: an exception for NET to NET in front, or "! -d NET" in the rule.
Sources: net/bridge/br_netfilter_hooks.c, iptables-extensions(8)
"""

from collections.abc import Iterator
from itertools import pairwise

from kvmdiag.actions.rule import InsertRule
from kvmdiag.diagnose.case import Case, place, rule_fact
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.nets import IPNetwork, connected
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.packet import IPAddress
from kvmdiag.model.report import Severity
from kvmdiag.model.trace import RuleRef


def _survey(survey: Survey) -> Iterator[Suspicion]:
    seen = set()
    for case in survey.cases():
        for said in _found(case):
            if case.walk.works and said.subject not in seen:
                seen.add(said.subject)
                yield said


@check(severity=Severity.WARNING, needs={Facts.LINKS, Facts.TABLES}, survey=_survey)
def masquerade_too_wide(case: Case) -> Iterator[Suspicion]:
    """A bridged frame whose source a rule rewrites."""
    yield from _found(case)


def _found(case: Case) -> Iterator[Suspicion]:
    for before, hop in pairwise(case.walk.hops):
        rule, stack = hop.decider, case.stack(hop.stack)
        if not isinstance(rule, RuleRef) or not rule.bridged or stack is None:
            continue
        source = before.packet.src
        subnet = next((str(n) for n in _subnets(case, source) if hop.packet.dst in n), None)
        if hop.packet.src == source or subnet is None:
            continue
        backend = "iptables-legacy" if rule.backend == "iptables-legacy" else "iptables-nft"
        exception = InsertRule(
            stack=stack.name,
            table="nat",
            chain="POSTROUTING",
            rule=f"-s {subnet} -d {subnet} -j ACCEPT",
            backend=backend,  # type: ignore[arg-type]  # one of the two
        )
        yield Suspicion(
            subject=place(stack, hop.link or "-"),
            summary=f"{stack.name} translates {source} to {hop.packet.src} although it stays "
            f"within {subnet}",
            evidence=(rule_fact(stack, rule),),
            remedies=((exception,),) if rule.backend != "nft" else (),
            at=hop,
        )


def _subnets(case: Case, source: IPAddress) -> Iterator[IPNetwork]:
    for stack in case.stacks:
        for link in stack.links or ():
            for network in connected(stack, link.name):
                if source in network:
                    yield network
