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
from kvmdiag.diagnose.case import Case, link_of, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.trace import LinkStateRef, Reason

_WAITS = ("listening", "learning")


@check(severity=Severity.ERROR, needs={Facts.LINKS})
def bridge_port_blocked(case: Case) -> Iterator[Suspicion]:
    """A frame, or the question for its next hop, ends at a port that does not forward."""
    ref = case.decider
    stack = case.stack(ref.stack) if isinstance(ref, LinkStateRef) else None
    if case.reason is not Reason.PORT_STATE or stack is None or not isinstance(ref, LinkStateRef):
        return
    port = link_of(stack, ref.link)
    bridge = None if port is None else link_of(stack, port.master)
    if port is None or port.port is None or bridge is None or not bridge.up:
        return
    state, stp = port.port.state, bridge.bridge is not None and bridge.bridge.stp
    if state == "forwarding" or (stp and state in _WAITS):
        return
    forward = SetPortForwarding(stack=stack.name, link=port.name)
    yield Suspicion(
        subject=place(stack, port.name),
        summary=f"{port.name} is {state}: {bridge.name} takes nothing from it and gives it nothing",
        evidence=(
            Evidence(f"{port.name} state {state}", f"bridge link in {stack.name}"),
            Evidence(f"stp_state {int(stp)}", f"ip -d link show {bridge.name} in {stack.name}"),
        ),
        remedies=() if stp else ((forward,),),
    )
