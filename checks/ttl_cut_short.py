"""A rule sets the time to live so low that the packet ends on its way.

Symptom: "Time to live exceeded" from a router near by, and traceroute shows no hop behind it; from
    other machines the same destination works.
Cause: the target TTL (IPv6: HL; nft: ip ttl set) with a small value, to keep others from sharing a
    connection, or left over from a test.
Harmless when: the value is large enough for all routers on the way, 64 for instance; or nothing is
    routed behind the rule.
Evidence: a router on the way finds the time to live used up, and the packet met that rule before.
Fix: iptables -t mangle -D CHAIN RULE, or an accept rule in front of it for these links.
Sources: net/netfilter/xt_HL.c, net/ipv4/ip_forward.c (ip_forward)
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import Case, rule_fact
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.matched import matched
from kvmdiag.model.report import Severity
from kvmdiag.model.statements import SetLife
from kvmdiag.model.trace import Reason


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.TABLES})
def ttl_cut_short(case: Case) -> Iterator[Suspicion]:
    """The rules that set the time to live of a packet before it was used up."""
    if case.reason is not Reason.TTL:
        return
    for met in matched(case, case.trace.hops, SetLife):
        yield Suspicion(
            subject=met.stack.name,
            summary=f"{met.stack.name} sets the time to live of {met.hop.packet.describe()} to "
            f"{met.hop.packet.ttl}, which is used up in {case.end.stack}",
            evidence=(rule_fact(met.stack, met.ref),),
            remedies=tuple(met.remedies()),
            at=met.hop,
        )
