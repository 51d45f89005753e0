"""Libvirt's network daemon cannot be reached.

Symptom: "Failed to connect socket to /var/run/libvirt/virtnetworkd-sock"; networks cannot be
    listed.
Cause: the modular daemons' sockets are not enabled, or modular and monolithic daemons are mixed.
Harmless when: the service is inactive and its socket active: it starts when asked, and running
    bridges need no daemon.
Evidence: libvirt could not be asked, which would have started it by its socket, and none of its
    daemons runs, though bridges of libvirt's are there.
Fix: systemctl enable --now virtnetworkd.socket (or libvirtd.socket).
Sources: https://libvirt.org/daemons.html
"""

from collections.abc import Iterator

from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.nets import is_libvirt_bridge
from kvmdiag.diagnose.programs import runs
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity

_DAEMONS = ("libvirtd", "virtnetworkd", "virtqemud")


@survey_check(severity=Severity.WARNING, needs={Facts.LINKS})
def virtnetworkd_down(survey: Survey) -> Iterator[Suspicion]:
    """Libvirt's bridges without libvirt."""
    host = survey.host
    if host is None:
        return
    gap = next((g for g in survey.snapshot.gaps if g.fact == "libvirt" and not g.expected), None)
    bridges = [n.name for n in host.links or () if is_libvirt_bridge(survey.snapshot, n.name)]
    if gap is None or not bridges:
        return
    told = survey.snapshot.daemons is not None and not runs(survey.snapshot, *_DAEMONS)
    evidence = [Evidence(gap.why, "libvirt")]
    if told:
        evidence.append(Evidence(f"none of {', '.join(_DAEMONS)} runs", "/proc"))
    yield Suspicion(
        subject=host.name,
        summary=f"libvirt does not answer, though {', '.join(bridges)} is there",
        evidence=tuple(evidence),
        proof="" if told else "systemctl is-active virtnetworkd.socket libvirtd.socket",
    )
