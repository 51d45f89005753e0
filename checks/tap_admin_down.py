"""The host's end of a guest's cable is set down.

Symptom: one guest is dead on one NIC, while its neighbours on the same bridge work.
Cause: "ip link set TAP down", or a network manager that took the tap for its own and
    deactivated it.
Harmless when: nobody uses that NIC; a macvtap is down because its guest closed it, and the taps of
    a stopped guest are gone, not down.
Evidence: the tap lacks the flag UP, its bridge port is disabled, and the path goes through it.
Fix: ip link set dev TAP up.
Sources: net/bridge/br_stp_if.c (br_stp_disable_port), drivers/net/veth.c (veth_open), ip-link(8).
"""

from collections.abc import Iterator

from kvmdiag.actions.link import SetLinkUp
from kvmdiag.diagnose.case import Case, link_fact, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.trace import Reason

_REASONS = {
    Reason.LINK_DOWN,
    Reason.NO_CARRIER,
    Reason.PORT_STATE,
    Reason.NO_PORT,
    Reason.UNRESOLVED,
    Reason.NO_ROUTE,  # routes by a link without carrier may not be used
}


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.ADDRESSES})
def tap_admin_down(case: Case) -> Iterator[Suspicion]:
    """Each tap that is down, when the packet ends for want of a link."""
    if case.reason not in _REASONS:
        return
    for stack, link in case.guest_cables():
        if link.up:
            continue
        guest = link.guest or (link.peer.stack if link.peer is not None else "a guest")
        evidence = [link_fact(stack, link)]
        if link.port is not None:
            evidence.append(
                Evidence(
                    f"bridge port {link.name} is {link.port.state}",
                    f"bridge -d link show dev {link.name} in {stack.name}",
                )
            )
        yield Suspicion(
            subject=place(stack, link.name),
            summary=f"{link.name}, the cable of {guest}, is set down",
            evidence=tuple(evidence),
            remedies=((SetLinkUp(stack=stack.name, link=link.name),),),
        )
