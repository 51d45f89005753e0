"""A rule keeps a connection from being tracked, or splits it over two zones.

Symptom: translation rules are there, match, and count nothing; guests' packets leave with their
    private source, or a port forward reaches the host itself instead of the guest; what is
    accepted as "established" is dropped.
Cause: NOTRACK or CT --notrack in a raw table (nft: notrack), left over from tuning or meant for
    other traffic; or CT --zone (ct zone set) for one direction only, so that answers do not find
    the connection. Conntrack does the translating: what it does not know is not translated.
Harmless when: the traffic needs no translation and no rule asks for its state (VXLAN, DNS to the
    host itself); or both directions are in the same zone.
Evidence: the packet met that rule on its way, and without the rule the path works.
Fix: iptables -t raw -D CHAIN RULE, or an accept rule in front of it for what comes in by this link.
Sources: net/netfilter/xt_CT.c, nf_conntrack_core.c (nf_conntrack_in), nf_nat_core.c
    (nf_nat_inet_fn), iptables-extensions(8) (CT)
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import Case, rule_fact
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.matched import matched
from kvmdiag.diagnose.rules import has
from kvmdiag.model.report import Severity
from kvmdiag.model.statements import NoTrack, SetZone


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.TABLES})
def conntrack_bypassed(case: Case) -> Iterator[Suspicion]:
    """Each rule of that kind that the packet met; the remedy tells whether it matters."""
    for met in matched(case, case.walk.hops, NoTrack, SetZone):
        stack, what = met.stack.name, met.hop.packet.describe()
        yield Suspicion(
            subject=stack,
            summary=f"{stack} does not track {what}, and so translates nothing of it"
            if has(met.rule, NoTrack)
            else f"{stack} tracks {what} in a zone of its own, where the other direction is not "
            "known",
            evidence=(rule_fact(met.stack, met.ref),),
            remedies=tuple(met.remedies()),
            at=met.hop,
        )
