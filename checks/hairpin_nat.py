"""A guest cannot reach another guest, or itself, by the host's public address and port.

Symptom: the forwarded port works from outside; from a guest of the same network it is refused, or
    times out.
Cause: refused: the rule is for what comes in by the uplink, and guests do not. Times out: the
    peer answers the guest directly, from an address that was not asked; or the guest is that peer,
    and takes nothing from its own address.
Harmless when: from outside it works: the port forward itself is right.
Evidence: the destination was rewritten to a guest of the sender's own network, and the answer
    comes from there directly; or it was not, since the rule asks for another incoming link, and
    nobody listens on the host itself.
Fix: a rule for the address instead of the link (-d ADDRESS), and translate the source too: -s NET
    -d GUEST -j MASQUERADE, with the port; or names that lead to the guest directly (split DNS).
Sources: RFC 5382 section 5.2, https://github.com/kubevirt/kubevirt/issues/10772
"""

from collections.abc import Iterator
from itertools import pairwise

import msgspec

from kvmdiag.actions.rule import AppendRule, InsertRule, backend_in_use
from kvmdiag.diagnose.case import Case, place, rule_fact
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.forwards import forwards_elsewhere
from kvmdiag.diagnose.nets import is_guest_bridge
from kvmdiag.model.packet import Packet
from kvmdiag.model.report import Severity
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Reason, RuleRef


@check(severity=Severity.WARNING, needs={Facts.LINKS, Facts.ADDRESSES, Facts.TABLES})
def hairpin_nat(case: Case) -> Iterator[Suspicion]:
    """The answer does not come from where the question was sent, or there is none at all."""
    if case.reason is Reason.MARTIAN and case.end.stack == case.walk.question.source.stack:
        yield from _sent_back(case, "the question comes back to {0} itself, from its own address")
        return
    if case.reason is not Reason.NO_LISTENER:
        return
    if case.walk.reply is None or case.trace is case.walk.request:
        yield from _refused(case)
    else:
        yield from _answered_directly(case)


def _refused(case: Case) -> Iterator[Suspicion]:
    """A guest asks for a forwarded port of its own network's, and the rule is for others."""
    stack, packet = case.here, case.end.packet
    if stack is None or not is_guest_bridge(stack, case.end.in_link):
        return
    for forward in forwards_elsewhere(case, stack):
        if not forward.is_back_into(stack, case.end.in_link):
            continue
        words = forward.text.split()
        at = words.index("-i")
        words[at : at + 2] = ["-d", f"{packet.dst}/{packet.dst.max_prefixlen}"]
        insert = InsertRule(
            stack=stack.name,
            table="nat",
            chain=forward.placed.chain.name,
            rule=" ".join(words),
            backend=forward.placed.table.backend,
        )
        there = msgspec.structs.replace(packet, dst=forward.target, dport=forward.port)
        yield Suspicion(
            subject=place(stack, case.end.in_link or "-"),
            summary=f"port {packet.dport} is forwarded for what comes in by {forward.link}, "
            f"not for the guests' own network on {case.end.in_link}",
            evidence=(rule_fact(stack, forward.placed.ref(stack)),),
            remedies=((insert, _back_by_the_host(stack, packet, there)),),
        )


def _answered_directly(case: Case) -> Iterator[Suspicion]:
    """The forwarded packet arrives, and the peer answers the sender itself."""
    sent, answer = case.walk.request.hops[0].packet, case.end.packet
    if answer.src != sent.dst:
        yield from _sent_back(case, f"{answer.src} answers {{0}} itself, which had asked {{1}}")


def _sent_back(case: Case, what: str) -> Iterator[Suspicion]:
    """Where the destination was rewritten; ``what`` becomes of it, of {0} that asked for {1}."""
    sent = case.walk.request.hops[0].packet
    for before, hop in pairwise(case.walk.request.hops):
        stack, rule = case.stack(hop.stack), hop.decider
        if hop.packet.dst == before.packet.dst or stack is None:
            continue
        append = _back_by_the_host(stack, sent, hop.packet)
        yield Suspicion(
            subject=place(stack, hop.in_link or hop.link or "-"),
            summary=f"{what.format(sent.src, sent.dst)}: the "
            "forwarded port does not work from the guests' own network",
            evidence=(rule_fact(stack, rule),) if isinstance(rule, RuleRef) else (),
            remedies=((append,), (InsertRule(**msgspec.structs.asdict(append)),)),
            at=hop,
        )


def _back_by_the_host(stack: Stack, sent: Packet, there: Packet) -> AppendRule:
    """The sender's address translated too, so that the answer comes back by the host."""
    words = [f"-s {sent.src}/{sent.src.max_prefixlen}", f"-d {there.dst}"]
    if there.dport is not None:
        words.append(f"-p {there.proto} -m {there.proto} --dport {there.dport}")
    return AppendRule(
        stack=stack.name,
        table="nat",
        chain="POSTROUTING",
        rule=" ".join([*words, "-j MASQUERADE"]),
        backend=backend_in_use(stack),
    )
