"""A guest is paused, and nobody takes packets from its tap.

Symptom: the guest answers nothing, and its console is frozen.
Cause: libvirt or QEMU paused it: the disk is full (ENOSPC), a migration, somebody's virsh
    suspend.
Harmless when: packets dropped by the tap since the guest booted, before its driver was up; a
    guest that sleeps (pmsuspended).
Evidence: libvirt says paused; the tap's tx_dropped grows by one with each packet.
Fix: free the disk; virsh resume GUEST.
Sources: https://libvirt.org/manpages/virsh.html#domstate, drivers/net/tun.c (tun_net_xmit)
"""

from collections.abc import Iterator

from kvmdiag.actions.libvirt import ResumeGuest
from kvmdiag.diagnose.case import Case
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack


def _suspicions(snapshot: Snapshot, host: Stack | None) -> Iterator[Suspicion]:
    """Each paused domain whose taps are on the host."""
    for domain in snapshot.domains or ():
        if domain.state != "paused" or host is None:
            continue
        targets = {nic.target for nic in domain.nics}
        taps = [link.name for link in host.links or () if link.name in targets]
        if taps:
            yield Suspicion(
                subject=domain.name,
                summary=f"{domain.name} is paused: nobody takes packets from {', '.join(taps)}",
                evidence=(Evidence("paused", f"virsh domstate {domain.name} --reason"),),
                remedies=((ResumeGuest(stack=host.name, guest=domain.name),),),
            )


def _survey(survey: Survey) -> Iterator[Suspicion]:
    yield from _suspicions(survey.snapshot, survey.host)


@check(severity=Severity.ERROR, needs={Facts.LINKS}, survey=_survey)
def guest_paused_tap_drops(case: Case) -> Iterator[Suspicion]:
    """Each paused guest; the remedy tells whether it matters to this packet."""
    yield from _suspicions(case.snapshot, case.stack(case.snapshot.host))
