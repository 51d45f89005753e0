"""The host's resolver and a network's dnsmasq may ask each other.

Symptom: "Maximum number of concurrent DNS queries reached (max: 150)", names are slow.
Cause: the host sends a domain to the network's dnsmasq, which sends what it does not know back to
    the host.
Harmless when: a burst of many names reaches 150 as well.
Evidence: the host's resolver names the network's own dnsmasq as a server; whether the network keeps
    its domain to itself cannot be read here.
Fix: <domain name='x' localOnly='yes'/>.
Sources: https://libvirt.org/formatnetwork.html, dnsmasq(8) (--local)
"""

from collections.abc import Iterator
from ipaddress import ip_interface

from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.resolver import asks
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.WARNING, needs={Facts.NETWORKS, Facts.DAEMONS})
def dns_forward_loop(survey: Survey) -> Iterator[Suspicion]:
    """Each network whose dnsmasq the host asks, as that one asks the host."""
    for network in survey.snapshot.networks or ():
        if not network.active or not network.dns:
            continue
        for text in network.addresses:
            own = str(ip_interface(text).ip)
            found = asks(survey.snapshot, own)
            if found is None:
                continue
            yield Suspicion(
                subject=network.name,
                summary=f"the host asks {network.name}'s dnsmasq at {own}, which sends what it "
                "does not know back to the host",
                evidence=(Evidence(*found),),
                proof=f"virsh net-dumpxml {network.name}: no localOnly='yes' and no <forwarder>; "
                "journalctl -t dnsmasq: maximum number of concurrent DNS queries",
            )
