"""Nobody answers DHCP and DNS on an active network of libvirt's.

Symptom: existing leases work until they expire, then all fail.
Cause: libvirt's dnsmasq was killed (killall dnsmasq, a restart of another service); libvirt does
    not start it again by itself.
Harmless when: the network has neither DHCP nor DNS.
Evidence: the network is active with DHCP, and no socket of the host takes UDP port 67.
Fix: systemctl restart virtnetworkd (or libvirtd); net-destroy and net-start as the last resort.
Sources: libvirt src/network/bridge_driver.c (networkRefreshDaemons)
"""

from collections.abc import Iterator

from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.ERROR, needs={Facts.SOCKETS, Facts.NETWORKS})
def dnsmasq_dead(survey: Survey) -> Iterator[Suspicion]:
    """Each active network with DHCP on a host without a DHCP server."""
    host = survey.host
    if host is None or any(s.port == 67 and s.protocol == "udp" for s in host.sockets or ()):
        return
    for network in survey.snapshot.networks or ():
        if network.active and network.dhcp and network.bridge is not None:
            yield Suspicion(
                subject=network.name,
                summary=f"network {network.name} is active and no program serves DHCP on "
                f"{network.bridge}",
                evidence=(Evidence("no socket takes udp port 67", f"ss -lnup in {host.name}"),),
            )
