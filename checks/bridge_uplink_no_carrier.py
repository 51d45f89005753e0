"""The cable of the NIC that leads to the LAN is dead.

Symptom: all bridged guests, or everything, have lost the LAN at once.
Cause: cable, switch port or NIC; the bridge itself stays up because of its taps and shows
    nothing.
Harmless when: the NIC is a spare, or nobody goes out by it.
Evidence: the packet is to leave by a NIC that is up and has no carrier.
Fix: plug it in, or look at the switch: ethtool NIC, dmesg.
Sources: Documentation/ABI/testing/sysfs-class-net (carrier)
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import (
    Case,
    link_fact,
    place,
)
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.trace import (
    LinkStateRef,
    Reason,
)

_LOST = (Reason.NO_CARRIER, Reason.PORT_STATE, Reason.UNRESOLVED, Reason.NO_PORT, Reason.NO_ROUTE)


@check(severity=Severity.ERROR, needs={Facts.LINKS})
def bridge_uplink_no_carrier(case: Case) -> Iterator[Suspicion]:
    """An uplink without carrier, in a stack on the way, when the packet is lost at a link."""
    ref = case.decider
    if case.reason not in _LOST:
        return
    for stack in case.stacks:
        for link in stack.links or ():
            dead = link.is_uplink and link.up and not link.carrier and stack.kind == "host"
            here = isinstance(ref, LinkStateRef) and ref.link in (link.name, link.master)
            if dead and here:
                yield Suspicion(
                    subject=place(stack, link.name),
                    summary=f"{link.name}, the way to the LAN, has no carrier",
                    evidence=(
                        link_fact(stack, link),
                        Evidence("carrier 0", f"/sys/class/net/{link.name}/carrier"),
                    ),
                )
