"""Cloned guests are one and the same client to the DHCP server.

Symptom: two guests with different MAC addresses get the same address, or lose it to each other.
Cause: systemd-networkd names itself to the server by /etc/machine-id, which was cloned with the
    disk.
Harmless when: the names begin or end alike (00:02:00:00:ab:11 is systemd's number, and two NICs
    of one guest share what stands for the machine); only wholly equal ones matter.
Evidence: two MAC addresses have leases under one client id; or one address is leased to both.
Fix: in the clone: truncate -s0 /etc/machine-id and systemd-machine-id-setup; or dhcp-identifier:
    mac in netplan.
Sources: https://www.freedesktop.org/software/systemd/man/machine-id.html, RFC 4361
"""

from collections.abc import Iterator

from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.libvirt import Network
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.ERROR, needs={Facts.NETWORKS})
def clone_same_machine_id_same_ip(survey: Survey) -> Iterator[Suspicion]:
    """Each client that two MAC addresses claim to be, and each address that both lease."""
    for network in survey.snapshot.networks or ():
        for macs, what in (*_same_client(network), *_same_address(network)):
            yield Suspicion(
                subject=network.name,
                summary=f"{' and '.join(sorted(macs))} are one client to the DHCP server of "
                f"{network.name}: {what}",
                evidence=(Evidence(what, f"virsh net-dhcp-leases {network.name}"),),
            )


def _same_client(network: Network) -> Iterator[tuple[set[str], str]]:
    """MAC addresses under one client id; the server gives each client one address."""
    owners: dict[str, set[str]] = {}
    for lease in network.leases or ():
        if lease.client_id:
            owners.setdefault(lease.client_id.lower(), set()).add(lease.mac)
    for name, macs in owners.items():
        if len(macs) > 1:
            yield macs, f"both are client {name}"


def _same_address(network: Network) -> Iterator[tuple[set[str], str]]:
    owners: dict[str, set[str]] = {}
    for lease in network.leases or ():
        owners.setdefault(lease.address, set()).add(lease.mac)
    for address, macs in owners.items():
        if len(macs) > 1:
            yield macs, f"{address} is leased to both"
