"""A port forward is translated and then refused, because the guests' network lets nothing new in.

Symptom: a client of a forwarded port gets "connection refused" at once, though the translation
    rule counts.
Cause: DNAT happens in PREROUTING, and then FORWARD ends the packet: libvirt rejects every new
    connection into a NAT network, in LIBVIRT_FWI or in guest_input.
Harmless when: the guest's service itself is closed: then the guest answers with a reset, and the
    packet was seen on its tap.
Evidence: the destination was rewritten in this stack, and the same packet ends in its forward
    hook.
Fix: an accept rule for that guest and port in front of libvirt's chains, put there by a libvirt
    hook at each start of the network. With libvirt's nft backend it must stand in libvirt's own
    chain: another table cannot take back a reject.
Sources: https://wiki.libvirt.org/Networking.html#forwarding-incoming-connections, libvirt
    src/network/network_iptables.c
"""

from collections.abc import Iterator

from kvmdiag.diagnose.accepting import Accepting, accept_in_front
from kvmdiag.diagnose.case import Case, place, rule_fact
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.model.report import Severity
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Hop, Reason, RuleRef, Stage


@check(severity=Severity.ERROR, needs={Facts.TABLES})
def dnat_blocked_by_libvirt_reject(case: Case) -> Iterator[Suspicion]:
    """A translated packet ends in the forward hook of the stack that translated it."""
    stack, rule, end = case.here, case.rule, case.end
    if case.reason is not Reason.NETFILTER or stack is None or rule is None:
        return
    if end.stage is not Stage.FORWARD or case.trace is not case.walk.request:
        return
    translation = _translation(case, stack)
    if translation is None:
        return
    narrow = Accepting(
        out_link=end.out_link,
        destination=f"{end.packet.dst}/{end.packet.dst.max_prefixlen}",
        packet=end.packet,
    )
    remedy = accept_in_front(stack, rule, "forward", narrow)
    evidence = [rule_fact(stack, rule)]
    if isinstance(translation.decider, RuleRef):
        evidence.insert(0, rule_fact(stack, translation.decider))
    yield Suspicion(
        subject=place(stack, end.out_link or "-"),
        summary=f"the connection is forwarded to {end.packet.dst} and then not let in by "
        f"{rule.chain}",
        evidence=tuple(evidence),
        remedies=((remedy,),) if remedy is not None else (),
    )


def _translation(case: Case, stack: Stack) -> Hop | None:
    """Where this stack rewrote the destination."""
    before = None
    for hop in case.trace.hops:
        if hop.stack == stack.name:
            rewritten = before is not None and hop.packet.dst != before.packet.dst
            if rewritten and hop.stage in (Stage.PREROUTING, Stage.OUTPUT):
                return hop
        before = hop
    return None
