"""A network behind NAT uses addresses that belong to somebody on the Internet.

Symptom: some sites are unreachable from this host and its guests, and only from there.
Cause: the network's subnet was made up, as 188.64.100.0/24, and is somebody's; to its real owner
    there is no way from here.
Harmless when: the addresses are one's own, as in a routed network; private (RFC 1918), shared
    (100.64.0.0/10) and unique local ranges.
Evidence: a bridge with guests has a public address, and a rule translates its subnet.
Fix: give the network a private subnet (virsh net-edit, net-destroy, net-start) and renew the
    leases.
Sources: RFC 1918, RFC 6598
"""

from collections.abc import Iterator
from ipaddress import ip_network

from kvmdiag.diagnose.case import address_fact, place, rule_fact
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.nets import connected
from kvmdiag.diagnose.rules import source_nats, translates
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Severity

_SHARED = ip_network("100.64.0.0/10")


@survey_check(severity=Severity.WARNING, needs={Facts.LINKS, Facts.ADDRESSES, Facts.TABLES})
def public_range_as_private(survey: Survey) -> Iterator[Suspicion]:
    """Each translated network of guests with public addresses."""
    for stack in survey.stacks:
        for link in stack.links or ():
            if link.kind != "bridge":
                continue
            for network in connected(stack, link.name):
                own = network.is_private or (network.version == 4 and network.overlaps(_SHARED))
                rule = next((p for p in source_nats(stack) if translates(p.rule, network[0])), None)
                if not own and rule is not None:
                    yield Suspicion(
                        subject=place(stack, link.name),
                        summary=f"{network} of {link.name} is public address space, used behind "
                        "NAT: its real owner cannot be reached from here",
                        evidence=(
                            address_fact(stack, link.name),
                            rule_fact(stack, rule.ref(stack)),
                        ),
                    )
