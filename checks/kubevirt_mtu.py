"""A virtual machine's NIC is larger than its pod's.

Symptom: downloads in a virtual machine in Kubernetes hang.
Cause: the pod's MTU is 1450 or 1480, and the machine uses 1500: its driver does not read the MTU
    (e1000e), or DHCP did not tell it.
Harmless when: both are equal, also when less than 1500.
Evidence: the machine's NIC has a greater MTU than the pod's link.
Fix: virtio, or DHCP option 26; ip link set dev NIC mtu N inside for now.
Sources: https://github.com/kubevirt/kubevirt/issues/987
"""

from collections.abc import Iterator

from kvmdiag.actions.device import SetMtu
from kvmdiag.diagnose.case import place
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.nets import inside_of, ports_of
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.WARNING, needs={Facts.LINKS})
def kubevirt_mtu(survey: Survey) -> Iterator[Suspicion]:
    """Each machine whose NIC is larger than its pod's bridge."""
    for stack in survey.stacks:
        for bridge in stack.links or ():
            if not bridge.name.startswith("k6t-"):
                continue
            for port in ports_of(stack, bridge.name):
                inside = inside_of(survey.stacks, port)
                if inside is None or inside[1].mtu <= bridge.mtu:
                    continue
                guest, nic = inside
                fix = SetMtu(stack=guest.name, link=nic.name, mtu=bridge.mtu)
                yield Suspicion(
                    subject=place(guest, nic.name),
                    summary=f"{nic.name} of {guest.name} has MTU {nic.mtu}, its pod {bridge.mtu}",
                    evidence=(Evidence(f"{bridge.name} mtu {bridge.mtu}", f"{stack.name}"),),
                    remedies=((fix,),),
                )
