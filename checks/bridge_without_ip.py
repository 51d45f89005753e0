"""The host has no address in its guests' network.

Symptom: guests on a bridge reach each other, and the host cannot reach them though it has an
    address of that subnet, or none at all. When they use the host as their gateway, they reach
    nothing beyond.
Cause: the bridge has no address, because it was deleted or never given, or the host's is on a NIC
    that is not connected to it.
Harmless when: it is meant: an isolated bridge, or one for the LAN on which the host has another
    NIC.
Evidence: a packet of the host's to a guest goes out by another link than the guest's bridge,
    which has no address; or the guests' gateway is an address that nobody has.
Fix: ip addr add HOST/LEN dev BRIDGE, and the same in the network's configuration.
Sources: ip-address(8), net/ipv4/devinet.c (__inet_del_ifa)
"""

from collections.abc import Iterator

from kvmdiag.actions.address import AddAddress
from kvmdiag.diagnose.absent import absent_addresses, is_bare
from kvmdiag.diagnose.case import Case, address_fact, addresses_of, place
from kvmdiag.diagnose.check import Facts, Suspicion, Turn, check
from kvmdiag.diagnose.nets import is_guest_bridge
from kvmdiag.model.report import Severity
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Reason

_LOST = {Reason.UNRESOLVED, Reason.NO_ROUTE, Reason.NO_RETURN_ROUTE, Reason.NO_ADDRESS}


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.ADDRESSES}, turn=Turn.FIRST)
def bridge_without_ip(case: Case) -> Iterator[Suspicion]:
    """Bridges whose address the guests use and nobody has; else what is meant to be so."""
    host = case.stack(case.snapshot.host)
    if host is None:
        return
    lost = tuple(_lost(case, host)) if case.reason in _LOST else ()
    yield from lost or _apart(case, host)


def _lost(case: Case, host: Stack) -> Iterator[Suspicion]:
    """Each bridge with guests that lacks an address which something here tells of."""
    for bridge in host.links or ():
        if not is_guest_bridge(host, bridge.name) or not is_bare(host, bridge):
            continue
        known = absent_addresses(case, host, bridge)
        if known:
            yield Suspicion(
                subject=place(host, bridge.name),
                summary=f"{bridge.name} has no address; its guests need {known[0].address} there",
                evidence=(address_fact(host, bridge.name), *(a.evidence for a in known)),
                remedies=tuple(
                    (AddAddress(stack=host.name, link=bridge.name, address=absent.address),)
                    for absent in known
                ),
            )


def _apart(case: Case, host: Stack) -> Iterator[Suspicion]:
    """The host asks for a guest whose bridge has no address of its own."""
    question = case.walk.question
    if question.source.stack != host.name or question.destination.stack is None:
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
