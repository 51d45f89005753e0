"""A guest uses fewer queues of its NIC than it was given.

Symptom: one core of the guest is busy with its network.
Cause: the XML gives queues='N', and the guest's driver uses one (ethtool -L was never called).
Harmless when: a small guest needs no more.
Evidence: queues of the tap are disabled.
Fix: in the guest: ethtool -L IF combined N, with a udev rule to keep it.
Sources: https://libvirt.org/formatdomain.html#setting-nic-driver-specific-options, ethtool(8)
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import place
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.INFO, needs={Facts.LINKS})
def multiqueue_unused(survey: Survey) -> Iterator[Suspicion]:
    """Each tap with queues that are switched off."""
    for stack in survey.stacks:
        for link in stack.links or ():
            if link.tap is None or not link.tap.multi_queue or not link.tap.disabled_queues:
                continue
            yield Suspicion(
                subject=place(stack, link.name),
                summary=f"{link.tap.disabled_queues} queues of {link.name} are not used by its "
                f"guest",
                evidence=(
                    Evidence(
                        f"queues {link.tap.queues}, disabled {link.tap.disabled_queues}",
                        f"ip -d link show {link.name} in {stack.name}",
                    ),
                ),
            )
