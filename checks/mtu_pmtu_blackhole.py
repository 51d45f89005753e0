"""A link on the way is smaller than the guest's, and the message that says so is dropped.

Symptom: ping and login work; downloads, TLS handshakes and long outputs hang.
Cause: a tunnel or overlay on the way has a smaller MTU, and a firewall drops ICMP type 3, by
    which the sender would learn it.
Harmless when: the message gets through: then a smaller MTU alone does no harm. TCP with a clamped
    MSS never needs it.
Evidence: a path that works for small packets has a routed link smaller than its first one, and a
    rule on the way drops ICMP type 3.
Fix: let icmp type 3 code 4 pass; or iptables -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN
    -j TCPMSS --clamp-mss-to-pmtu.
Sources: RFC 1191, RFC 2923, iptables-extensions(8) (TCPMSS)
"""

from collections.abc import Iterator

from kvmdiag.actions.rule import AppendRule, backend_in_use
from kvmdiag.diagnose.case import Case, link_of, place, rule_fact
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.rules import Placed, rules_of, stops
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.link import Link
from kvmdiag.model.matches import IcmpTypeIs
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.stack import Stack


@survey_check(severity=Severity.WARNING, needs={Facts.LINKS, Facts.TABLES})
def mtu_pmtu_blackhole(survey: Survey) -> Iterator[Suspicion]:
    """Each router with a smaller link, on a path where its message would be dropped."""
    seen = set()
    for case in survey.cases():
        found = _narrow(case) if case.walk.works is not False else None
        if found is None:
            continue
        stack, small, mtu = found
        rule = next((p for p in _on_the_way(case) if _drops_the_message(p[1])), None)
        if rule is None or small.name in seen or _clamps(stack):
            continue
        seen.add(small.name)
        clamp = AppendRule(
            stack=stack.name,
            table="mangle",
            chain="FORWARD",
            rule="-p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
            backend=backend_in_use(stack),
        )
        yield Suspicion(
            subject=place(stack, small.name),
            summary=f"packets of {mtu} bytes do not fit {small.name} with {small.mtu}, and the "
            f"ICMP message that says so is dropped in {rule[0].name}",
            evidence=(
                Evidence(
                    f"{small.name} mtu {small.mtu}", f"ip link show {small.name} in {stack.name}"
                ),
                rule_fact(rule[0], rule[1].ref(rule[0])),
            ),
            remedies=((clamp,),),
        )


def _narrow(case: Case) -> tuple[Stack, Link, int] | None:
    """The first routed link that is smaller than the one the packet started with."""
    first = case.walk.request.hops[0]
    start = case.stack(first.stack)
    source = None if start is None else link_of(start, first.link)
    if source is None or source.is_loopback:
        return None
    for stack, hop in case.routers():
        link = link_of(stack, hop.out_link)
        if link is not None and link.mtu < source.mtu:
            return stack, link, source.mtu
    return None


def _on_the_way(case: Case) -> Iterator[tuple[Stack, Placed]]:
    for stack in case.stacks:
        if any(hop.stack == stack.name for hop in case.walk.hops):
            for placed in rules_of(stack):
                yield stack, placed


def _drops_the_message(placed: Placed) -> bool:
    kinds = [p for p in placed.rule.body if isinstance(p, IcmpTypeIs) and not p.negate]
    return stops(placed.rule) and any((3, None) in k.types or (3, 4) in k.types for k in kinds)


def _clamps(stack: Stack) -> bool:
    return any("TCPMSS" in p.rule.text or "maxseg" in p.rule.text for p in rules_of(stack))
