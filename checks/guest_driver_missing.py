"""A guest has never sent a packet: it may lack the driver of its NIC.

Symptom: a Windows guest shows no NIC.
Cause: a virtio NIC without the driver for it.
Harmless when: right after boot; a guest that was not asked anything.
Evidence: the guest's agent shows no link with the MAC address of the NIC; or, where nobody can look
    inside, packets went to the guest's tap, and none ever came from it.
Fix: virtio-win's driver in the guest, or model e1000e.
Sources: https://fedorapeople.org/groups/virt/virtio-win/
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import place
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.nets import nic_behind
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.link import Link
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack

# Fewer packets than that are no news to a guest that nobody has asked anything.
_MANY = 100


@survey_check(severity=Severity.WARNING, needs={Facts.LINKS})
def guest_driver_missing(survey: Survey) -> Iterator[Suspicion]:
    """Each tap whose guest shows no NIC for it, or has never sent anything by it."""
    for stack in survey.stacks:
        for link in stack.links or ():
            if link.kind == "tun" and link.carrier and link.guest is not None:
                yield from _absent(survey, stack, link) or _silent(survey, stack, link)


def _absent(survey: Survey, stack: Stack, tap: Link) -> tuple[Suspicion, ...]:
    """The guest was looked into, and no link of it has the NIC's MAC address."""
    inside, nic = _inside(survey.snapshot, tap), nic_behind(survey.snapshot, tap)
    mac = nic[1].mac if nic is not None else None
    if inside is None or inside.links is None or mac is None:
        return ()
    if mac.lower() in {(link.mac or "").lower() for link in inside.links}:
        return ()
    said = Suspicion(
        subject=place(stack, tap.name),
        summary=f"{inside.name} shows no NIC with {mac}, the one at {tap.name}: it has no driver "
        "for it",
        evidence=(
            Evidence(f"no link is {mac}", f"ip link in {inside.name}"),
            Evidence(f"<mac address='{mac}'/>", f"virsh dumpxml {tap.guest}"),
        ),
    )
    return (said,)


def _silent(survey: Survey, stack: Stack, tap: Link) -> tuple[Suspicion, ...]:
    """Nobody could look inside, and the tap only ever took packets."""
    counted = tap.counters
    if _inside(survey.snapshot, tap) is not None or counted is None or counted.rx_packets:
        return ()
    if counted.tx_packets + counted.tx_dropped <= _MANY:
        return ()
    said = Suspicion(
        subject=place(stack, tap.name),
        summary=f"{tap.guest} has never sent anything by {tap.name}",
        evidence=(
            Evidence(
                f"rx_packets 0, tx_packets {counted.tx_packets}", f"ip -s link show {tap.name}"
            ),
        ),
        proof=f"the device manager, or lspci -k, inside {tap.guest}",
    )
    return (said,)


def _inside(snapshot: Snapshot, tap: Link) -> Stack | None:
    """The guest's stack, when its agent has shown all of it."""
    for inside in snapshot.guests or ():
        if inside.domain == tap.guest and inside.access == "full" and inside.stack is not None:
            return next((s for s in snapshot.stacks if s.name == inside.stack), None)
    return None
