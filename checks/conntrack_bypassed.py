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

from kvmdiag.actions.rule_changes import DeleteRule
from kvmdiag.diagnose.accepting import Accepting, accept_in_front
from kvmdiag.diagnose.case import Case, rule_fact
from kvmdiag.diagnose.check import Facts, Remedy, Suspicion, check
from kvmdiag.diagnose.rules import HOOKS, backend_of, family_of, has, rule_of
from kvmdiag.model.netfilter import Rule
from kvmdiag.model.report import Severity
from kvmdiag.model.stack import Stack
from kvmdiag.model.statements import NoTrack, SetZone
from kvmdiag.model.trace import Hop, RuleRef


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.TABLES})
def conntrack_bypassed(case: Case) -> Iterator[Suspicion]:
    """Each rule of that kind that the packet met; the remedy tells whether it matters."""
    for hop in case.walk.hops:
        for ref in hop.matched if hop.stage in HOOKS else ():
            stack = case.stack(ref.stack)
            rule = None if stack is None else rule_of(stack, ref)
            if stack is None or rule is None or not has(rule, NoTrack, SetZone):
                continue
            untracked = has(rule, NoTrack)
            yield Suspicion(
                subject=stack.name,
                summary=f"{stack.name} does not track {hop.packet.describe()}, and so translates "
                "nothing of it"
                if untracked
                else f"{stack.name} tracks {hop.packet.describe()} in a zone of its own, where "
                "the other direction is not known",
                evidence=(rule_fact(stack, ref),),
                remedies=tuple(_remedies(stack, hop, ref, rule)),
                at=hop,
            )


def _remedies(stack: Stack, hop: Hop, ref: RuleRef, rule: Rule) -> Iterator[Remedy]:
    if ref.backend != "nft" and ref.family in ("ip", "ip6"):
        yield (
            DeleteRule(
                stack=stack.name,
                table=ref.table,
                chain=ref.chain,
                rule=rule.text.removeprefix(f"-A {ref.chain} "),
                family=family_of(ref),
                backend=backend_of(ref),
                disruptive=False,  # what is tracked again is neither stopped nor let through
            ),
        )
    whole_link = Accepting(in_link=hop.in_link, out_link=hop.out_link)
    accept = accept_in_front(stack, ref, HOOKS[hop.stage], whole_link)
    if accept is not None:
        yield (accept,)
