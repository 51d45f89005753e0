"""A network's DHCP range is used up.

Symptom: new guests get no address, old ones keep theirs.
Cause: the range is smaller than the number of guests, or leases last too long for guests that
    come and go.
Harmless when: expired leases are used again.
Evidence: as many leases as the range has addresses.
Fix: a wider range (virsh net-edit), or shorter leases.
Sources: https://libvirt.org/formatnetwork.html#addressing, dnsmasq(8)
"""

from collections.abc import Iterator
from ipaddress import ip_address

from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.ERROR, needs={Facts.NETWORKS})
def dhcp_pool_exhausted(survey: Survey) -> Iterator[Suspicion]:
    """Each network whose leases fill its ranges."""
    for network in survey.snapshot.networks or ():
        size = 0
        taken = 0
        for first, last in network.ranges:
            low, high = int(ip_address(first)), int(ip_address(last))
            size += high - low + 1
            taken += sum(low <= int(ip_address(le.address)) <= high for le in network.leases or ())
        if size and taken >= size:
            yield Suspicion(
                subject=network.name,
                summary=f"all {size} addresses of network {network.name} are leased",
                evidence=(Evidence(f"{taken} leases", f"virsh net-dhcp-leases {network.name}"),),
            )
