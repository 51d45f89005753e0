"""A guest's NIC is limited to a rate.

Symptom: a guest is slow and nothing is lost.
Cause: <bandwidth> in its XML, virsh domiftune, or a shaper on its tap.
Harmless when: the limit is meant.
Evidence: libvirt names a rate for the NIC.
Fix: virsh domiftune GUEST TAP --inbound 0 --outbound 0 (--live --config).
Sources: https://libvirt.org/formatdomain.html#quality-of-service
"""

from collections.abc import Iterator

from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.INFO, needs={Facts.DOMAINS})
def qos_bandwidth_cap(survey: Survey) -> Iterator[Suspicion]:
    """Each limited NIC of a running guest."""
    for domain in survey.snapshot.domains or ():
        for nic in domain.nics:
            if domain.state == "running" and (nic.inbound or nic.outbound):
                rates = f"in {nic.inbound or 'any'}, out {nic.outbound or 'any'} KiB/s"
                yield Suspicion(
                    subject=f"{domain.name}/{nic.target}",
                    summary=f"{nic.target} of {domain.name} is limited: {rates}",
                    evidence=(Evidence(rates, f"virsh domiftune {domain.name} {nic.target}"),),
                )
