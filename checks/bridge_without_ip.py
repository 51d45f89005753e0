"""The host has no address in its guests' network.

Symptom: guests on a bridge reach each other, and the host cannot reach them though it has an
    address of that subnet, or none at all.
Cause: the bridge has no address, or the host's is on a NIC that is not connected to it.
Harmless when: it is meant: an isolated bridge, or one for the LAN on which the host has another
    NIC.
Evidence: a packet of the host's to a guest goes out by another link than the guest's bridge,
    which has no address.
Fix: ip addr add HOST/LEN dev BRIDGE, and the same in the network's configuration.
Sources: ip-address(8)
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import (
    Case,
    address_fact,
    addresses_of,
    place,
)
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.model.report import Severity


@check(severity=Severity.INFO, needs={Facts.LINKS, Facts.ADDRESSES})
def bridge_without_ip(case: Case) -> Iterator[Suspicion]:
    """The host asks for a guest whose bridge has no address of its own."""
    question = case.walk.question
    host = case.stack(case.snapshot.host)
    if host is None or question.source.stack != host.name or question.destination.stack is None:
        return
    guest = case.stack(question.destination.stack)
    if guest is None or guest is host:
        return
    for link in guest.links or ():
        if not any(
            str(a.ip) == question.destination.address for a in addresses_of(guest, link.name)
        ):
            continue
        for stack, bridge in case.segments(link):
            if stack is host and not addresses_of(host, bridge.name):
                yield Suspicion(
                    subject=place(host, bridge.name),
                    summary=f"{host.name} has no address on {bridge.name}, the bridge of "
                    f"{guest.name}: it is no part of that network",
                    evidence=(address_fact(host, bridge.name),),
                    by_design=True,
                )
