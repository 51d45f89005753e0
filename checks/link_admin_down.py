"""A bridge, an uplink or a guest's NIC is set down.

Symptom: everything by that link is dead at once; "ip link" shows it without UP, and the routes by
    it, the default route among them, are gone.
Cause: "ip link set ... down", a network manager that deactivated it, or a configuration that never
    sets it up.
Harmless when: the path does not need the link: a spare NIC, a bridge without guests.
Evidence: the link lacks the flag UP, and with the link up the packet gets further.
Fix: ip link set dev LINK up; routes by way of a gateway do not come back with it.
Sources: net/core/dev.c (dev_close_many), net/ipv4/fib_frontend.c (fib_netdev_event), ip-link(8)
"""

from collections.abc import Iterator

from kvmdiag.actions.link import SetLinkUp
from kvmdiag.diagnose.case import Case, address_fact, link_fact, place
from kvmdiag.diagnose.check import Facts, Suspicion, Turn, check
from kvmdiag.model.link import Link
from kvmdiag.model.report import Severity
from kvmdiag.model.stack import Stack


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.ADDRESSES}, turn=Turn.FIRST)
def link_admin_down(case: Case) -> Iterator[Suspicion]:
    """Each link in use that is down; the remedy tells whether it matters to this packet."""
    cables = {(stack.name, link.name) for stack, link in case.guest_cables()}
    for stack in case.stacks:
        for link in stack.links or ():
            if link.up or (stack.name, link.name) in cables or not _is_used(stack, link):
                continue
            yield Suspicion(
                subject=place(stack, link.name),
                summary=f"{link.name} of {stack.name} is set down",
                evidence=(link_fact(stack, link), address_fact(stack, link.name)),
                remedies=((SetLinkUp(stack=stack.name, link=link.name),),),
            )


def _is_used(stack: Stack, link: Link) -> bool:
    """Whether anything depends on the link: an address, a bridge it is a port of, its ports."""
    if link.master is not None or any(a.link == link.name for a in stack.addresses or ()):
        return True
    return any(link.name in (other.master, other.lower) for other in stack.links or ())
