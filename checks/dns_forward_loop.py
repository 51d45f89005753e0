"""The host's resolver and a network's dnsmasq may ask each other.

Symptom: "Maximum number of concurrent DNS queries reached (max: 150)", names are slow.
Cause: the host sends a domain to the network's dnsmasq, which sends what it does not know back to
    the host.
Harmless when: a burst of many names reaches 150 as well.
Evidence: the path to the network's DNS works, and the network has a domain.
Fix: <domain name='x' localOnly='yes'/>.
Sources: https://libvirt.org/formatnetwork.html, dnsmasq(8) (--local)
"""

from collections.abc import Iterator
from ipaddress import ip_interface

from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.INFO, needs={Facts.NETWORKS})
def dns_forward_loop(survey: Survey) -> Iterator[Suspicion]:
    """DNS of a network with a domain was asked about."""
    if survey.question is None or survey.question.port != 53:
        return
    for network in survey.snapshot.networks or ():
        own = {str(ip_interface(text).ip) for text in network.addresses}
        if network.domain and survey.question.destination.address in own:
            yield Suspicion(
                subject=network.name,
                summary=f"if the host asks {network.name}'s dnsmasq for {network.domain}, the two "
                "may ask each other in a circle",
                evidence=(
                    Evidence(f"<domain> {network.domain}", f"virsh net-dumpxml {network.name}"),
                ),
                proof="journalctl -t dnsmasq: maximum number of concurrent DNS queries; resolvectl "
                f"domain: who is asked for {network.domain}",
            )
