"""The cable of the NIC that leads to the LAN is dead.

Symptom: all bridged guests, or everything, have lost the LAN at once.
Cause: cable, switch port or NIC; the bridge itself stays up because of its taps and shows
    nothing.
Harmless when: the NIC is a spare, nobody goes out by it, or the bridge has another uplink.
Evidence: the packet is to leave by a NIC that is up and has no carrier; or nobody answers on a
    bridge whose only way to the LAN that NIC is.
Fix: plug it in, or look at the switch: ethtool NIC, dmesg.
Sources: Documentation/ABI/testing/sysfs-class-net (carrier)
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import Case, link_fact, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.nets import ports_of
from kvmdiag.model.link import Link
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import LinkStateRef, Reason

_LOST = (Reason.NO_CARRIER, Reason.PORT_STATE, Reason.UNRESOLVED, Reason.NO_PORT, Reason.NO_ROUTE)


@check(severity=Severity.ERROR, needs={Facts.LINKS})
def bridge_uplink_no_carrier(case: Case) -> Iterator[Suspicion]:
    """An uplink of the host without carrier, when the packet is lost at it or for want of it."""
    host = case.stack(case.snapshot.host)
    if case.reason not in _LOST or host is None:
        return
    for link in host.links or ():
        if not link.is_uplink or not link.up or link.carrier:
            continue
        ref = case.decider
        here = isinstance(ref, LinkStateRef) and ref.link in (link.name, link.master)
        if here or _is_the_only_way(case, host, link):
            yield Suspicion(
                subject=place(host, link.name),
                summary=f"{link.name}, the way to the LAN, has no carrier",
                evidence=(
                    link_fact(host, link),
                    Evidence("carrier 0", f"/sys/class/net/{link.name}/carrier"),
                ),
            )


def _is_the_only_way(case: Case, host: Stack, link: Link) -> bool:
    """Whether nobody answers on the link's bridge, which has no other uplink that is alive."""
    if link.master is None or not case.is_lost_on(host, link.master):
        return False
    return not any(port.is_uplink and port.carrier for port in ports_of(host, link.master))
