"""Rules of the old iptables decide, where only the new ones are looked at.

Symptom: the rules look open, and packets are dropped; "nft list ruleset" shows no reason.
Cause: iptables-legacy and iptables-nft are two sets of rules; both hold, and each program shows
    its own.
Harmless when: the legacy tables are empty and accept; that the warning is printed means nothing
    then.
Evidence: the packet ends at a rule or policy of a legacy table, and there are nft tables besides.
Fix: accept in the legacy table, or empty it (iptables-legacy -F, -P ACCEPT) and remove what loads
    it.
Sources: iptables-legacy(8),
    https://wiki.nftables.org/wiki-nftables/index.php/Legacy_xtables_tools
"""

from collections.abc import Iterator

from kvmdiag.diagnose.accepting import Accepting, accept_in_front, both_ways
from kvmdiag.diagnose.case import Case, rule_fact
from kvmdiag.diagnose.check import Facts, Remedy, Suspicion, check
from kvmdiag.diagnose.rules import HOOKS
from kvmdiag.model.report import Severity
from kvmdiag.model.trace import Reason, Stage


@check(severity=Severity.ERROR, needs={Facts.TABLES})
def iptables_legacy_nft_mix(case: Case) -> Iterator[Suspicion]:
    """A packet ends in a legacy table although this stack has others."""
    stack, rule, end = case.here, case.rule, case.end
    if case.reason is not Reason.NETFILTER or stack is None or rule is None or rule.bridged:
        return
    others = {t.backend for t in stack.tables or () if t.family in (rule.family, "inet")}
    if rule.backend != "iptables-legacy" or others == {"iptables-legacy"}:
        return
    if end.stage not in HOOKS:
        return
    remedies: tuple[Remedy, ...] = ()
    if end.stage is Stage.FORWARD:
        remedies = (both_ways(stack, rule, end),)
    else:
        narrow = Accepting(in_link=end.in_link, packet=end.packet)
        action = accept_in_front(stack, rule, HOOKS[end.stage], narrow)
        remedies = ((action,),) if action is not None else ()
    yield Suspicion(
        subject=stack.name,
        summary=f"{stack.name} drops the packet in iptables-legacy's {rule.chain}, which nft and "
        "iptables-nft do not show",
        evidence=(rule_fact(stack, rule),),
        remedies=remedies,
    )
