"""The modules of the running kernel are no longer on the disk.

Symptom: "/dev/net/tun: No such device", "Module tun not found"; a guest or a network does not
    start.
Cause: an upgrade removed them, and the machine was not rebooted.
Harmless when: what is needed is built in or loaded already; containers have no /lib/modules by
    right.
Evidence: reading failed for want of a module.
Fix: reboot.
Sources: modprobe(8)
"""

from collections.abc import Iterator

from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity

_SIGNS = ("modprobe", "Module ", "No such device", "could not load")


@survey_check(severity=Severity.WARNING, needs={Facts.LINKS})
def kernel_upgraded_modules_gone(survey: Survey) -> Iterator[Suspicion]:
    """Reading something failed as it does without modules."""
    for gap in survey.snapshot.gaps:
        if any(sign in gap.why for sign in _SIGNS):
            yield Suspicion(
                subject=gap.stack or survey.snapshot.host,
                summary=f"{gap.fact} could not be read as if the kernel's modules were gone",
                evidence=(Evidence(gap.why, f"reading {gap.fact}"),),
                proof="ls /lib/modules/$(uname -r)",
            )
            return
