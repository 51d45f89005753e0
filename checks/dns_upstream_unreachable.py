"""A network's dnsmasq may have nobody to ask in its turn.

Symptom: DNS fails in guests and works on the host.
Cause: dnsmasq reads /etc/resolv.conf, which names a server that is gone, or one that a VPN
    reaches by its own link only.
Harmless when: names of the network itself are answered.
Evidence: the path to the network's DNS works; whom it asks cannot be read here.
Fix: <dns><forwarder addr='...'/></dns>.
Sources: https://libvirt.org/formatnetwork.html, dnsmasq(8) (--resolv-file)
"""

from collections.abc import Iterator
from ipaddress import ip_interface

from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.INFO, needs={Facts.NETWORKS})
def dns_upstream_unreachable(survey: Survey) -> Iterator[Suspicion]:
    """DNS of a network was asked about, and packets get there."""
    if survey.question is None or survey.question.port != 53:
        return
    for walk in survey.walks():
        asked = walk.question == survey.question and walk.works
        for network in survey.snapshot.networks or ():
            own = {str(ip_interface(text).ip) for text in network.addresses}
            if asked and survey.question.destination.address in own:
                yield Suspicion(
                    subject=network.name,
                    summary=f"packets reach {network.name}'s dnsmasq; whether it reaches its own "
                    "server cannot be read here",
                    evidence=(Evidence("the path works", "walk"),),
                    proof=f"dig @{survey.question.destination.address} example.org: SERVFAIL",
                )
