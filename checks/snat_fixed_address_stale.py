"""A rule translates to an address that the machine no longer has.

Symptom: it worked until the lease was renewed or the host moved; then replies vanish.
Cause: SNAT --to-source names an address; nobody answers ARP for it any more.
Harmless when: the address is held by others on purpose: a floating address, keepalived's standby,
    proxy ARP, a /32 that is routed here.
Evidence: the packet leaves with a source that this machine does not have, put there by a rule.
Fix: MASQUERADE in front of the rule, or the new address in it; then conntrack -D -s NET.
Sources: iptables-extensions(8), SNAT
"""

from collections.abc import Iterator

from kvmdiag.actions.nft import InsertNftRule
from kvmdiag.actions.rule import InsertRule
from kvmdiag.diagnose.case import Case, address_fact, owns, place, rule_fact
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.rules import backend_of, family_of, rule_of
from kvmdiag.model.action import Action
from kvmdiag.model.netfilter import Rule
from kvmdiag.model.report import Severity
from kvmdiag.model.stack import Stack
from kvmdiag.model.statements import Masquerade, SourceNat
from kvmdiag.model.trace import RuleRef, Stage


@check(severity=Severity.ERROR, needs={Facts.ADDRESSES, Facts.TABLES})
def snat_fixed_address_stale(case: Case) -> Iterator[Suspicion]:
    """The source was rewritten to an address that the rewriting stack does not have."""
    for hop in case.walk.request.hops:
        stack, rule = case.stack(hop.stack), hop.decider
        if stack is None or not isinstance(rule, RuleRef) or hop.stage is not Stage.POSTROUTING:
            continue
        found = rule_of(stack, rule)
        if found is None or owns(stack, hop.packet.src):
            continue
        statement = next((p for p in found.body if isinstance(p, SourceNat)), None)
        if statement is None or statement.first != str(hop.packet.src):
            continue
        yield Suspicion(
            subject=place(stack, hop.out_link or "-"),
            summary=f"{stack.name} translates to {statement.first}, which it does not have",
            evidence=(rule_fact(stack, rule), address_fact(stack, hop.out_link or "-")),
            remedies=((_masquerade(stack, rule, found),),),
            at=hop,
        )


def _masquerade(stack: Stack, rule: RuleRef, old: Rule) -> Action:
    """The same rule with MASQUERADE, in front."""
    if rule.backend == "nft":
        matches = tuple(part for part in old.body if not isinstance(part, SourceNat))
        return InsertNftRule(
            stack=stack.name,
            family=rule.family,
            table=rule.table,
            chain=rule.chain,
            text=f"{f' {old.text}'.partition(' snat ')[0]} masquerade".strip(),
            body=(*matches, Masquerade()),
        )
    kept = old.text.removeprefix(f"-A {rule.chain} ").partition("-j SNAT")[0].strip()
    return InsertRule(
        stack=stack.name,
        table="nat",
        chain=rule.chain,
        rule=f"{kept} -j MASQUERADE".strip(),
        family=family_of(rule),
        backend=backend_of(rule),
    )
