"""The host drops replies, because its routes by mark do not count when sources are checked.

Symptom: guests that are routed by a mark to a second uplink or a VPN get no answer; replies
    arrive on that link and vanish.
Cause: the reverse path filter is strict, and it looks the way back up without the packet's mark.
Harmless when: the rules choose by the incoming link (ip rule iif), which the filter follows; or
    it is loose (2).
Evidence: the packet ends at the host's reverse path filter, and there are policy rules by fwmark.
Fix: sysctl -w net.ipv4.conf.IF.rp_filter=2; or src_valid_mark=1 with the mark restored on what
    comes back.
Sources: net/ipv4/fib_frontend.c (__fib_validate_source), Documentation/networking/ip-sysctl.rst
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import Case, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.refused import refused_source
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.trace import Reason


@check(severity=Severity.ERROR, needs={Facts.POLICY_RULES, Facts.SYSCTLS})
def host_rp_filter_fwmark(case: Case) -> Iterator[Suspicion]:
    """A packet ends at the reverse path filter of a stack with rules by mark."""
    refused = refused_source(case, Reason.RP_FILTER)
    if refused is None:
        return
    stack, link = refused.stack, refused.link
    marked = [rule for rule in stack.policy_rules or () if rule.fwmark is not None]
    if not marked:
        return
    yield Suspicion(
        subject=place(stack, link),
        summary=f"{stack.name} drops what {refused.source} sends by {link}: the strict "
        "reverse path filter does not see the mark by which it is routed",
        evidence=(
            *refused.strictness,
            *(
                Evidence(
                    f"from all fwmark {rule.fwmark:#x} lookup {rule.table}",
                    f"ip rule {rule.priority} in {stack.name}",
                )
                for rule in marked
            ),
        ),
        remedies=(refused.loosening,),
    )
