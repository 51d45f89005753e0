"""A guest's packets may be carried by QEMU itself instead of the kernel.

Symptom: the host's CPU is busy and the guest's network slow.
Cause: /dev/vhost-net is not there: the module is not loaded.
Harmless when: NICs that are not virtio, and user networking, never use it.
Evidence: a tap of a virtio NIC drops packets; whether vhost carries them cannot be read here.
Fix: modprobe vhost_net, and in modules-load.d; start the guest anew.
Sources: https://libvirt.org/formatdomain.html#setting-nic-driver-specific-options
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import place
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.nets import nic_behind
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.INFO, needs={Facts.LINKS, Facts.DOMAINS})
def vhost_net_missing(survey: Survey) -> Iterator[Suspicion]:
    """Each virtio tap that loses packets."""
    for stack in survey.stacks:
        for link in stack.links or ():
            nic = nic_behind(survey.snapshot, link)
            counted = link.counters
            if nic is None or nic[1].model != "virtio" or counted is None:
                continue
            if counted.tx_dropped > 1000 and counted.tx_dropped * 100 > counted.tx_packets:
                yield Suspicion(
                    subject=place(stack, link.name),
                    summary=f"{link.name} loses packets; QEMU may carry them without vhost",
                    evidence=(
                        Evidence(
                            f"tx_dropped {counted.tx_dropped}", f"ip -s link show {link.name}"
                        ),
                    ),
                    proof="ls /dev/vhost-net; pgrep -f 'vhost-' names a thread for each QEMU",
                )
