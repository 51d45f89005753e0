"""A guest does not take packets from its tap fast enough.

Symptom: packets are lost under load.
Cause: the tap's ring is full: the guest or its CPU is too slow, or its NIC has one queue.
Harmless when: a tiny part; drops from before the guest's driver was up.
Evidence: more than one in a hundred packets to the guest was dropped by its tap.
Fix: more queues or CPUs for the guest, vhost, a greater txqueuelen.
Sources: drivers/net/tun.c (tun_net_xmit)
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import place
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.INFO, needs={Facts.LINKS})
def tap_queue_drops(survey: Survey) -> Iterator[Suspicion]:
    """Each tap with many drops."""
    for stack in survey.stacks:
        for link in stack.links or ():
            counted = link.counters
            if link.kind != "tun" or counted is None or counted.tx_dropped < 1000:
                continue
            if counted.tx_dropped * 100 > counted.tx_packets:
                yield Suspicion(
                    subject=place(stack, link.name),
                    summary=f"{link.name} dropped {counted.tx_dropped} packets for its guest and "
                    f"delivered {counted.tx_packets}",
                    evidence=(
                        Evidence(
                            f"tx_dropped {counted.tx_dropped}", f"ip -s link show {link.name}"
                        ),
                    ),
                    proof=f"ip -s link show {link.name} twice under load: does it still rise?",
                )
