"""A guest has IPv6 and a default route, and its host has no way out.

Symptom: some sites are slow or fail, though IPv4 works.
Cause: the network gives addresses and a router, and nobody routes or translates them onwards.
Harmless when: clients that try both versions hide it.
Evidence: a guest has a global IPv6 address and a default route, and the host has none.
Fix: <nat ipv6='yes'> with an uplink that has IPv6; or no IPv6 on the network.
Sources: RFC 8305, https://libvirt.org/formatnetwork.html
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import addresses_of
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.nets import defaults
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.WARNING, needs={Facts.ADDRESSES, Facts.ROUTES})
def ipv6_no_egress(survey: Survey) -> Iterator[Suspicion]:
    """Each guest with IPv6 behind a host without."""
    host = survey.host
    if host is None or defaults(host, 6):
        return
    for stack in survey.stacks:
        if stack is host or not defaults(stack, 6):
            continue
        own = [
            address
            for link in stack.links or ()
            for address in addresses_of(stack, link.name)
            if address.version == 6 and not address.ip.is_link_local
        ]
        if own:
            yield Suspicion(
                subject=stack.name,
                summary=f"{stack.name} uses IPv6 ({own[0]}), and {host.name} has no IPv6 route out",
                evidence=(Evidence("no default route", f"ip -6 route in {host.name}"),),
            )
