"""The provider's switch may let only the host's own MAC address pass.

Symptom: a bridged guest on a rented host gets no answer to ARP or DHCP, while the host is fine.
Cause: the switch port accepts the registered MAC address alone (Hetzner, OVH); others are
    dropped, or bring a complaint.
Harmless when: the LAN is one's own. The same picture comes from a wrong VLAN or a dead gateway.
Evidence: the guest's frames leave by the uplink under the guest's own MAC address; what lies
    beyond cannot be read here.
Fix: a routed network with proxy ARP, or a virtual MAC address from the provider in the guest's
    XML.
Sources: https://docs.hetzner.com/robot/dedicated-server/network/net-config-debian-ubuntu/
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import link_of
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.nets import left_by
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.trace import Stage


@survey_check(severity=Severity.INFO, needs={Facts.LINKS})
def provider_mac_filter(survey: Survey) -> Iterator[Suspicion]:
    """The asked packet was bridged out under a guest's MAC address."""
    for case in survey.cases() if survey.question is not None else ():
        place_left = left_by(case.walk)
        first = case.walk.request.hops[0]
        if place_left is None or case.walk.question != survey.question:
            continue
        stack = case.stack(place_left.stack)
        link = None if stack is None else link_of(stack, place_left.link)
        if link is None or link.master is None or first.stack == place_left.stack:
            continue
        if any(
            hop.stage is Stage.ROUTE and hop.stack == place_left.stack
            for hop in case.walk.request.hops
        ):
            continue
        yield Suspicion(
            subject=str(place_left),
            summary=f"{first.stack} leaves by {place_left.link} under its own MAC address, which "
            "a provider's switch may not let pass",
            evidence=(Evidence(f"bridged to {place_left.link}", "walk"),),
            proof=f"kvmdiag trace: the request leaves {place_left.link} and no answer comes in, "
            "while one sent by the host itself is answered",
        )
