"""Libvirt's DHCP server answers on a bridge that leads to the LAN.

Symptom: guests or machines of the LAN get a gateway or a range that is not theirs.
Cause: a libvirt network with <dhcp> has a NIC among the ports of its bridge, so two servers
    answer.
Harmless when: two servers of one administration share the range (failover).
Evidence: the network has DHCP, and a port of its bridge is an uplink.
Fix: take <dhcp> out of the network, or the NIC out of the bridge.
Sources: RFC 2131
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import link_fact, place
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.nets import ports_of
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.NETWORKS})
def dhcp_double_or_rogue(survey: Survey) -> Iterator[Suspicion]:
    """Each libvirt network with DHCP whose bridge has an uplink."""
    host = survey.host
    for network in survey.snapshot.networks or ():
        if host is None or not network.dhcp or not network.active or network.bridge is None:
            continue
        for port in ports_of(host, network.bridge):
            if port.is_uplink:
                yield Suspicion(
                    subject=place(host, network.bridge),
                    summary=f"the DHCP server of network {network.name} answers on the LAN behind "
                    f"{port.name}",
                    evidence=(
                        Evidence("<dhcp>", f"virsh net-dumpxml {network.name}"),
                        link_fact(host, port),
                    ),
                )
