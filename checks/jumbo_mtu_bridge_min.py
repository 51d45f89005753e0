"""A port or bridge is smaller than the frames of the guests at both ends.

Symptom: small packets pass between two guests, large ones vanish without a word or a counter.
Cause: the guests have an MTU of 9000, say, and a tap on the way 1500; a bridge drops on the way
    out what does not fit, and says nothing.
Harmless when: one of the two ends is small as well: then TCP agrees on small segments.
Evidence: the MTU of both guests' NICs is greater than that of a port between them.
Fix: the same MTU everywhere (<mtu size='9000'/> in libvirt's network XML; netplan for the NIC).
Sources: net/bridge/br_forward.c (br_dev_queue_push_xmit), https://libvirt.org/formatnetwork.html
"""

from collections.abc import Iterator
from itertools import combinations

from kvmdiag.actions.device import SetMtu
from kvmdiag.diagnose.case import link_of, place
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.nets import ports_of
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.WARNING, needs={Facts.LINKS})
def jumbo_mtu_bridge_min(survey: Survey) -> Iterator[Suspicion]:
    """Each bridge with two guests' NICs that are larger than one of their ports."""
    by_name = {stack.name: stack for stack in survey.stacks}
    for stack in survey.stacks:
        for bridge in stack.links or ():
            ends = []
            for port in ports_of(stack, bridge.name) if bridge.kind == "bridge" else ():
                far = by_name.get(port.peer.stack) if port.peer is not None else None
                nic = None if far is None or port.peer is None else link_of(far, port.peer.link)
                if nic is not None:
                    ends.append((port, nic))
            for (one, near), (other, far_nic) in combinations(ends, 2):
                small = min((one, other), key=lambda port: port.mtu)
                wanted = min(near.mtu, far_nic.mtu)
                if small.mtu < wanted:
                    yield Suspicion(
                        subject=place(stack, small.name),
                        summary=f"frames of {wanted} bytes that guests on {bridge.name} send do "
                        f"not fit {small.name} with {small.mtu}, and vanish there",
                        evidence=(
                            Evidence(
                                f"{small.name} mtu {small.mtu}",
                                f"ip link show {small.name} in {stack.name}",
                            ),
                            Evidence(f"NICs behind: {near.mtu}, {far_nic.mtu}", "ip link"),
                        ),
                        remedies=((SetMtu(stack=stack.name, link=small.name, mtu=wanted),),),
                    )
