"""The guest's virtual cable is unplugged in libvirt.

Symptom: the guest reports NO-CARRIER while its tap is up on the host.
Cause: <link state='down'/> in its XML, or virsh domif-setlink GUEST TAP down.
Harmless when: somebody cut the guest off on purpose: ask.
Evidence: libvirt says that the link state of this NIC is down, and the path goes through it.
Fix: virsh domif-setlink GUEST TAP up, with --config as well for the next start.
Sources: https://libvirt.org/formatdomain.html#modifying-virtual-link-state
"""

from collections.abc import Iterator

from kvmdiag.actions.libvirt import SetGuestLink
from kvmdiag.diagnose.case import Case, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.nets import nic_behind
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.trace import Reason

_LOST = {
    Reason.LINK_DOWN,
    Reason.NO_CARRIER,
    Reason.PORT_STATE,
    Reason.NO_PORT,
    Reason.UNRESOLVED,
    Reason.NO_ROUTE,
    Reason.NO_ADDRESS,
}


@check(severity=Severity.ERROR, needs={Facts.LINKS})
def guest_link_state_down(case: Case) -> Iterator[Suspicion]:
    """Each tap whose NIC libvirt has unplugged, when the packet ends for want of a link."""
    if case.reason not in _LOST:
        return
    for stack, link in case.guest_cables():
        nic = nic_behind(case.snapshot, link)
        if nic is None or nic[1].link_state != "down":
            continue
        guest = nic[0].name
        yield Suspicion(
            subject=place(stack, link.name),
            summary=f"libvirt keeps the cable of {guest} at {link.name} unplugged",
            evidence=(Evidence("link state down", f"virsh domif-getlink {guest} {link.name}"),),
            remedies=((SetGuestLink(stack=stack.name, guest=guest, tap=link.name),),),
        )
