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
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.ERROR, needs={Facts.LINKS})
def guest_paused_tap_drops(survey: Survey) -> Iterator[Suspicion]:
    """Each paused domain whose taps are there."""
    for domain in survey.snapshot.domains or ():
        if domain.state != "paused":
            continue
        targets = {nic.target for nic in domain.nics}
        for stack in survey.stacks:
            for link in stack.links or ():
                if link.name in targets and stack.name == survey.snapshot.host:
                    yield Suspicion(
                        subject=domain.name,
                        summary=f"{domain.name} is paused: nobody takes packets from {link.name}",
                        evidence=(Evidence("paused", f"virsh domstate {domain.name} --reason"),),
                        remedies=((ResumeGuest(stack=stack.name, guest=domain.name),),),
                    )
