"""A guest cannot reach another guest, or itself, by the host's public address and port.

Symptom: the forwarded port works from outside; from a guest of the same network it is refused, or
    times out.
Cause: refused: the rule is for what comes in by the uplink, and guests do not. Times out: the
    peer answers the guest directly, from an address that was not asked.
Harmless when: from outside it works: the port forward itself is right.
Evidence: the destination was rewritten to a guest of the sender's own network, and the answer
    comes from there directly.
Fix: translate the source too: -s NET -d GUEST -j MASQUERADE, with the port; or names that lead to
    the guest directly (split DNS).
Sources: RFC 5382 section 5.2, https://github.com/kubevirt/kubevirt/issues/10772
"""

from collections.abc import Iterator
from itertools import pairwise

import msgspec

from kvmdiag.actions.rule import AppendRule, InsertRule, backend_in_use
from kvmdiag.diagnose.case import (
    Case,
    place,
    rule_fact,
)
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.model.report import Severity
from kvmdiag.model.trace import (
    Reason,
    RuleRef,
)


@check(severity=Severity.WARNING, needs={Facts.LINKS, Facts.TABLES})
def hairpin_nat(case: Case) -> Iterator[Suspicion]:
    """The answer does not come from where the question was sent."""
    if case.reason is not Reason.NO_LISTENER or case.walk.reply is None:
        return
    sent, answer = case.walk.request.hops[0].packet, case.end.packet
    if answer.src == sent.dst:
        return
    for before, hop in pairwise(case.walk.request.hops):
        stack, rule = case.stack(hop.stack), hop.decider
        if hop.packet.dst == before.packet.dst or stack is None:
            continue
        words = [f"-s {sent.src}/{sent.src.max_prefixlen}", f"-d {hop.packet.dst}"]
        if hop.packet.dport is not None:
            words.append(f"-p {hop.packet.proto} -m {hop.packet.proto} --dport {hop.packet.dport}")
        append = AppendRule(
            stack=stack.name,
            table="nat",
            chain="POSTROUTING",
            rule=" ".join([*words, "-j MASQUERADE"]),
            backend=backend_in_use(stack),
        )
        yield Suspicion(
            subject=place(stack, hop.in_link or hop.link or "-"),
            summary=f"{answer.src} answers {sent.src} itself, which had asked {sent.dst}: the "
            "forwarded port does not work from the guests' own network",
            evidence=(rule_fact(stack, rule),) if isinstance(rule, RuleRef) else (),
            remedies=((append,), (InsertRule(**msgspec.structs.asdict(append)),)),
            at=hop,
        )
