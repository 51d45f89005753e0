"""A guest or network will be another one at its next start.

Symptom: a repair vanished, or an old fault came back, with a restart.
Cause: it was changed with --live only, or with --config only.
Harmless when: names that libvirt makes anew each time (targets, aliases) always differ.
Evidence: libvirt's stored definition names other NICs than the running one.
Fix: the same change with both flags: virsh attach-interface ... --live --config.
Sources: https://libvirt.org/manpages/virsh.html#device-commands
"""

from collections.abc import Iterator

from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.INFO, needs={Facts.DOMAINS})
def live_vs_config_drift(survey: Survey) -> Iterator[Suspicion]:
    """Each guest whose next start has other NICs."""
    for domain in survey.snapshot.domains or ():
        if domain.stored_nics is None or domain.state == "shutoff":
            continue
        now, then = (
            {(n.mac, n.source) for n in nics} for nics in (domain.nics, domain.stored_nics)
        )
        if now == then:
            continue
        gone = ", ".join(sorted(f"{mac} on {source}" for mac, source in now - then)) or "none"
        new = ", ".join(sorted(f"{mac} on {source}" for mac, source in then - now)) or "none"
        yield Suspicion(
            subject=domain.name,
            summary=f"{domain.name} loses these NICs at its next start: {gone}; and gets: {new}",
            evidence=(Evidence("the two differ", f"virsh dumpxml {domain.name} [--inactive]"),),
        )
