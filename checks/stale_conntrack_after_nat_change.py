"""A connection keeps the translation that was decided when it began.

Symptom: the rules were corrected, and the running ping or call still fails; new ones work.
Cause: nat rules are asked once for each connection; what they said then, be it nothing, holds
    until it ends.
Harmless when: no nat chain was there before: then the correction counts at once.
Evidence: the path works by the rules as they are, connections are tracked on the way, and the
    translating rule has counted none.
Fix: conntrack -D -s SOURCE; or begin anew with another port or id.
Sources: net/netfilter/nf_nat_core.c (nf_nat_inet_fn), conntrack(8)
"""

from collections.abc import Iterator

from kvmdiag.actions.conntrack import FlushConnections
from kvmdiag.diagnose.case import chain_of, rule_fact
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Severity
from kvmdiag.model.trace import (
    RuleRef,
    Stage,
)

_BUSY = 50


@survey_check(severity=Severity.INFO, needs={Facts.TABLES, Facts.CONNTRACK})
def stale_conntrack_after_nat_change(survey: Survey) -> Iterator[Suspicion]:
    """The asked path works by a nat rule that no connection has used yet."""
    for case in survey.cases() if survey.question is not None else ():
        if case.walk.question != survey.question or not case.walk.works:
            continue
        for hop in case.walk.request.hops:
            stack = case.stack(hop.stack)
            if stack is None or hop.stage is not Stage.POSTROUTING or stack.conntrack is None:
                continue
            rule = hop.decider
            chain = chain_of(stack, rule) if isinstance(rule, RuleRef) else None
            if not isinstance(rule, RuleRef) or chain is None or rule.index is None:
                continue
            # Used by nobody yet on a busy router: it is new.
            if stack.conntrack.count > _BUSY and chain.rules[rule.index].packets == 0:
                source = case.walk.request.hops[0].packet.src
                yield Suspicion(
                    subject=stack.name,
                    summary=f"connections that {source} began before {stack.name}'s nat rules "
                    "were changed keep their old translation",
                    evidence=(rule_fact(stack, rule),),
                    remedies=((FlushConnections(stack=stack.name, source=str(source)),),),
                    proof=f"conntrack -L -s {source}: a reply to the private address itself",
                )
                return
