"""A bridge port is not forwarding yet, because spanning tree makes it wait.

Symptom: DHCP or PXE times out at boot and works by hand a little later; dead for half a minute
    after a port came up.
Cause: STP is on, and a port listens and learns for twice the forward delay (15 s by default).
Harmless when: STP is off: then the forward delay of 15 s that every bridge shows means nothing.
    Libvirt's stp='on' delay='0' waits 4 s in all.
Evidence: the frame ends at a port that is listening or learning, on a bridge with STP.
Fix: wait; for the future forward_delay 200 (2 s), or STP off where there can be no loop.
Sources: net/bridge/br_stp_timer.c, https://libvirt.org/formatnetwork.html
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import (
    Case,
    link_of,
    place,
)
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.trace import (
    LinkStateRef,
    Reason,
)


@check(severity=Severity.WARNING, needs={Facts.LINKS})
def stp_forward_delay(case: Case) -> Iterator[Suspicion]:
    """A frame ends at a port that is not forwarding yet."""
    ref = case.decider
    if case.reason is not Reason.PORT_STATE or not isinstance(ref, LinkStateRef):
        return
    stack = case.stack(ref.stack)
    port = None if stack is None else link_of(stack, ref.link)
    bridge = None if stack is None or port is None else link_of(stack, port.master)
    if stack is None or port is None or port.port is None or bridge is None:
        return
    settings = bridge.bridge
    if port.port.state not in ("listening", "learning") or settings is None or not settings.stp:
        return
    seconds = 2 * settings.forward_delay / 100
    yield Suspicion(
        subject=place(stack, port.name),
        summary=f"{port.name} is {port.port.state}: {bridge.name} has STP on and keeps a new port "
        f"waiting for {seconds:g} s",
        evidence=(
            Evidence(f"{port.name} state {port.port.state}", f"bridge link in {stack.name}"),
            Evidence(
                f"stp_state 1 forward_delay {settings.forward_delay}",
                f"ip -d link show {bridge.name} in {stack.name}",
            ),
        ),
    )
