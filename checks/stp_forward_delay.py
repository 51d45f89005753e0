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

from kvmdiag.diagnose.case import Case, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.ports import stopped_at_port
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.trace import Reason


@check(severity=Severity.WARNING, needs={Facts.LINKS})
def stp_forward_delay(case: Case) -> Iterator[Suspicion]:
    """A frame ends at a port that is not forwarding yet."""
    found = stopped_at_port(case, Reason.PORT_STATE)
    settings = None if found is None else found.bridge.bridge
    if found is None or settings is None or not settings.stp or not found.waits:
        return
    stack, name, bridge = found.stack, found.link.name, found.bridge.name
    seconds = 2 * settings.forward_delay / 100
    yield Suspicion(
        subject=place(stack, name),
        summary=f"{name} is {found.port.state}: {bridge} has STP on and keeps a new port waiting "
        f"for {seconds:g} s",
        evidence=(
            Evidence(f"{name} state {found.port.state}", f"bridge link in {stack.name}"),
            Evidence(
                f"stp_state 1 forward_delay {settings.forward_delay}",
                f"ip -d link show {bridge} in {stack.name}",
            ),
        ),
    )
