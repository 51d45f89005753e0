"""A macvtap may not hear the multicast groups its guest listens to.

Symptom: IPv6 or multicast fails in a guest with a macvtap, IPv4 works.
Cause: trustGuestRxFilters is "no": the host does not take over the guest's list of addresses.
Harmless when: other kinds of NIC; the guest has no IPv6.
Evidence: the asked path is IPv6 and one end is a NIC of type direct.
Fix: trustGuestRxFilters='yes' in the interface's XML.
Sources: https://libvirt.org/formatdomain.html#direct-attachment-to-physical-interface
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import Case
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.model.report import Evidence, Severity


@check(severity=Severity.WARNING, needs={Facts.LINKS})
def macvtap_rxfilter_ipv6(case: Case) -> Iterator[Suspicion]:
    """An IPv6 path with a macvtap at one end that is not known to work."""
    ends = {case.walk.question.source.stack, case.walk.question.destination.stack}
    for domain in case.snapshot.domains or ():
        direct = any(nic.type == "direct" for nic in domain.nics)
        if direct and domain.name in ends and case.walk.request.hops[0].packet.version == 6:
            yield Suspicion(
                subject=domain.name,
                summary=f"{domain.name} has a macvtap, which may not hear IPv6's groups",
                evidence=(Evidence("<interface type='direct'>", f"virsh dumpxml {domain.name}"),),
                proof="ip maddr show dev LOWER: 33:33:ff... of the guest is missing",
            )
