"""The rule that translates the guests' addresses is tied to a link they no longer leave by.

Symptom: guests lost the Internet when the default route moved to another NIC, Wi-Fi or VPN;
    packets leave with their private source.
Cause: "-o eno1", <forward dev='eno1'> or the like, while packets now go out by another link.
Harmless when: there are rules for each way out, or the rule is for a link that nobody uses.
Evidence: the packet leaves untranslated by one link, and a translating rule for its source names
    another.
Fix: a rule for the link in use, or one without a link; then forget old connections (conntrack -D
    -s NET), which keep what was decided for them.
Sources: iptables-extensions(8), MASQUERADE; https://libvirt.org/formatnetwork.html
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import Case, owns, place, rule_fact
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.rules import Placed, links_named, source_nats, translates
from kvmdiag.diagnose.translation import masquerading
from kvmdiag.model.matches import AddressIs
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Hop


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.TABLES})
def masquerade_pinned_to_wrong_egress(case: Case) -> Iterator[Suspicion]:
    """A private source leaves untranslated, and a rule for it names another link."""
    for stack, routed in case.routers():
        source, out = routed.packet.src, routed.out_link
        if out is None or not source.is_private or owns(stack, source):
            continue
        if any(hop.packet.src != source for hop in _later(case, routed)):
            continue
        for placed in source_nats(stack):
            names = links_named(placed.rule, "out")
            if translates(placed.rule, source) and names and out not in names:
                yield _pinned(stack, routed, placed, names)
                break


def _later(case: Case, hop: Hop) -> tuple[Hop, ...]:
    hops = case.walk.request.hops
    return tuple(later for later in hops[hops.index(hop) + 1 :] if later.stack == hop.stack)


def _pinned(stack: Stack, routed: Hop, placed: Placed, names: tuple[str, ...]) -> Suspicion:
    networks = [
        part.networks[0]
        for part in placed.rule.body
        if isinstance(part, AddressIs) and part.side == "src" and not part.negate
    ]
    subnet = networks[0]
    rule = f"-s {subnet} -o {routed.out_link} -j MASQUERADE"
    return Suspicion(
        subject=place(stack, routed.out_link or "-"),
        summary=f"{stack.name} translates {subnet} only on its way out by {', '.join(names)}, "
        f"and {routed.packet.src} leaves by {routed.out_link}",
        evidence=(
            rule_fact(stack, placed.ref(stack)),
            Evidence(str(getattr(routed.decider, "text", "")), f"ip route in {stack.name}"),
        ),
        remedies=masquerading(stack, subnet, rule),
        at=routed,
    )
