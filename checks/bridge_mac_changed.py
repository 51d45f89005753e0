"""The host's bridge has another MAC address than its NIC.

Symptom: the host got another address, or the provider cut it off, after it was bridged or
    upgraded.
Cause: systemd gives a new bridge a MAC address of its own (MACAddressPolicy=persistent); or the
    bridge takes that of its lowest port.
Harmless when: the LAN is free: then any MAC address will do. It matters with DHCP reservations,
    port security, or twins.
Evidence: a bridge with an uplink has an address, and a MAC address that is none of its uplinks'.
Fix: macaddress: in netplan, MACAddressPolicy=none in a .link file.
Sources: systemd.link(5), https://github.com/systemd/systemd/issues/21185
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import addresses_of, place
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.nets import ports_of
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.INFO, needs={Facts.LINKS, Facts.ADDRESSES})
def bridge_mac_changed(survey: Survey) -> Iterator[Suspicion]:
    """The host's bridges to the LAN that do not look like their NIC."""
    host = survey.host
    for bridge in (host.links or ()) if host is not None else ():
        if host is None or bridge.kind != "bridge" or not addresses_of(host, bridge.name):
            continue
        nics = [port for port in ports_of(host, bridge.name) if port.is_uplink]
        if nics and bridge.mac not in {nic.mac for nic in nics}:
            yield Suspicion(
                subject=place(host, bridge.name),
                summary=f"{bridge.name} is {bridge.mac} on the LAN, its NIC {nics[0].name} is "
                f"{nics[0].mac}",
                evidence=(Evidence(f"{bridge.name} is {bridge.mac}", f"ip link in {host.name}"),),
                proof="does the LAN's DHCP server or switch know the NIC's MAC address only?",
            )
