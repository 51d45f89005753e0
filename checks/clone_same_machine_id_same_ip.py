"""Cloned guests are one and the same client to the DHCP server.

Symptom: two guests with different MAC addresses get the same address, or lose it to each other.
Cause: systemd-networkd names itself to the server by /etc/machine-id, which was cloned with the
    disk.
Harmless when: the names begin alike (00:02:00:00:ab:11 is systemd's number); only equal ones
    matter.
Evidence: one address is leased to two MAC addresses.
Fix: in the clone: truncate -s0 /etc/machine-id and systemd-machine-id-setup; or dhcp-identifier:
    mac in netplan.
Sources: https://www.freedesktop.org/software/systemd/man/machine-id.html, RFC 4361
"""

from collections.abc import Iterator

from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.ERROR, needs={Facts.NETWORKS})
def clone_same_machine_id_same_ip(survey: Survey) -> Iterator[Suspicion]:
    """Each address that two MAC addresses lease."""
    for network in survey.snapshot.networks or ():
        owners: dict[str, set[str]] = {}
        for lease in network.leases or ():
            owners.setdefault(lease.address, set()).add(lease.mac)
        for address, macs in owners.items():
            if len(macs) > 1:
                yield Suspicion(
                    subject=address,
                    summary=f"{address} is leased to {' and '.join(sorted(macs))}: they look like "
                    "one client",
                    evidence=(
                        Evidence(f"{len(macs)} leases", f"virsh net-dhcp-leases {network.name}"),
                    ),
                    proof="compare the client ids there, or /etc/machine-id in both guests",
                )
