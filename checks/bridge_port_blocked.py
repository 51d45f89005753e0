"""A bridge port forwards nothing, and not because spanning tree makes it wait.

Symptom: one guest, or everything behind one port, is dead at once; its link is up and has carrier.
Cause: the port's state was set to disabled or blocking ("bridge link set dev PORT state 0|4"), by
    hand, by a script, or by a program that runs spanning tree (mstpd) and is gone; or spanning tree
    blocks it, and the way that it leaves open does not lead there.
Harmless when: spanning tree blocks the port because another way leads to the same machines.
Evidence: the frame ends at a port whose link is up and whose state is not forwarding.
Fix: bridge link set dev PORT state 3; with STP the kernel refuses that: look for the loop, or for
    the guard (bridge link set dev PORT guard off) that blocks it.
Sources: net/bridge/br_stp_if.c (br_set_port_state), bridge(8)
"""

from collections.abc import Iterator

from kvmdiag.actions.bridge import SetPortForwarding
from kvmdiag.diagnose.case import Case, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.ports import stopped_at_port
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.trace import Reason


@check(severity=Severity.ERROR, needs={Facts.LINKS})
def bridge_port_blocked(case: Case) -> Iterator[Suspicion]:
    """A frame, or the question for its next hop, ends at a port that does not forward."""
    found = stopped_at_port(case, Reason.PORT_STATE)
    if found is None or not found.bridge.up or found.port.state == "forwarding":
        return
    stack, name, bridge = found.stack, found.link.name, found.bridge
    stp = bridge.bridge is not None and bridge.bridge.stp
    if stp and found.waits:
        return
    forward = SetPortForwarding(stack=stack.name, link=name)
    yield Suspicion(
        subject=place(stack, name),
        summary=f"{name} is {found.port.state}: {bridge.name} takes nothing from it and gives it "
        "nothing",
        evidence=(
            Evidence(f"{name} state {found.port.state}", f"bridge link in {stack.name}"),
            Evidence(f"stp_state {int(stp)}", f"ip -d link show {bridge.name} in {stack.name}"),
        ),
        remedies=() if stp else ((forward,),),
    )
