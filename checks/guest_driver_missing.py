"""A guest has never sent a packet: it may lack the driver of its NIC.

Symptom: a Windows guest shows no NIC.
Cause: a virtio NIC without the driver for it.
Harmless when: right after boot; a guest that was not asked anything.
Evidence: packets went to the guest's tap, and none ever came from it.
Fix: virtio-win's driver in the guest, or model e1000e.
Sources: https://fedorapeople.org/groups/virt/virtio-win/
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import (
    place,
)
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.INFO, needs={Facts.LINKS})
def guest_driver_missing(survey: Survey) -> Iterator[Suspicion]:
    """Each tap with carrier that only ever took packets."""
    for stack in survey.stacks:
        for link in stack.links or ():
            counted = link.counters
            if link.kind != "tun" or not link.carrier or link.guest is None or counted is None:
                continue
            if counted.rx_packets == 0 and counted.tx_packets + counted.tx_dropped > 100:
                yield Suspicion(
                    subject=place(stack, link.name),
                    summary=f"{link.guest} has never sent anything by {link.name}",
                    evidence=(
                        Evidence(
                            f"rx_packets 0, tx_packets {counted.tx_packets}",
                            f"ip -s link show {link.name}",
                        ),
                    ),
                    proof=f"the device manager, or lspci -k, inside {link.guest}",
                )
