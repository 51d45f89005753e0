"""A guest has nobody to ask for names.

Symptom: addresses work, names do not.
Cause: no name server is configured (a fixed address without one, <dns enable='no'/>, a lease
    without option 6).
Harmless when: one dead server among others only delays; the guest needs no names.
Evidence: the guest's resolv.conf names no server.
Fix: the network's gateway as name server, in the guest's netplan or NetworkManager.
Sources: resolv.conf(5)
"""

from collections.abc import Iterator

from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.WARNING, needs={Facts.GUESTS})
def guest_no_dns(survey: Survey) -> Iterator[Suspicion]:
    """Each guest whose resolver names nobody."""
    for inside in survey.snapshot.guests or ():
        if inside.resolver is not None and not inside.resolver.nameservers:
            yield Suspicion(
                subject=inside.domain,
                summary=f"{inside.domain} has no name server configured",
                evidence=(Evidence("no nameserver", f"/etc/resolv.conf in {inside.domain}"),),
            )
