"""A guest's NIC is up and has no IPv4 address, or only one it gave itself.

Symptom: the guest has 169.254.x.x or nothing, and reaches nobody; when it routes for others, its
    address is nobody's, and their ARP for it stays unanswered.
Cause: DHCP failed on the way (rules, a dead server, a full range), the guest is not set up to
    ask, or its address was deleted.
Harmless when: the NIC is a port of a bridge or bond inside the guest, or is meant for IPv6 or for
    nothing. Bridged guests are in no lease list of libvirt's.
Evidence: a NIC of the guest is up with a carrier and has no address; a lease, a neighbour's memory
    or a route tells which it had.
Fix: find where it breaks (kvmdiag check GUEST GATEWAY --proto udp --port 67); inside the guest
    dhclient IF or netplan apply. An address that is known can be put back: ip addr add.
Sources: RFC 2131, RFC 3927, net/ipv4/devinet.c (__inet_del_ifa)
"""

from collections.abc import Iterator

from kvmdiag.actions.address import AddAddress
from kvmdiag.diagnose.absent import absent_addresses, is_bare
from kvmdiag.diagnose.case import Case, address_fact, link_fact, link_of, place
from kvmdiag.diagnose.check import Facts, Suspicion, Turn, check
from kvmdiag.diagnose.name_server import lacks_dhcp
from kvmdiag.diagnose.nets import network_on
from kvmdiag.model.link import Link
from kvmdiag.model.report import Severity
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Reason

_LOST = {
    Reason.NO_ADDRESS,
    Reason.NO_CARRIER,
    Reason.NO_ROUTE,
    Reason.NO_RETURN_ROUTE,
    Reason.UNRESOLVED,
}


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.ADDRESSES}, turn=Turn.FIRST)
def guest_no_lease_or_address(case: Case) -> Iterator[Suspicion]:
    """Each bare NIC of the guest that asks; of another guest, when its address is known."""
    if case.reason not in _LOST:
        return
    for stack in case.stacks:
        if stack.name == case.snapshot.host:
            continue
        asks = stack.name in (case.walk.question.source.stack, case.end.stack)
        for link in stack.links or ():
            bare = link.kind in (None, "veth") and link.carrier and is_bare(stack, link)
            if bare and not _is_left_alone(case, link):
                yield from _suspicion(case, stack, link, asks and not _has_any(stack))


def _is_left_alone(case: Case, link: Link) -> bool:
    """Whether libvirt's DHCP should have given the address and is dead: then that is the fault."""
    host = case.stack(case.snapshot.host)
    if host is None or link.peer is None or link.peer.stack != host.name:
        return False
    tap = link_of(host, link.peer.link)
    network = None if tap is None else network_on(case.snapshot, tap.master)
    return network is not None and lacks_dhcp(network, host)


def _has_any(stack: Stack) -> bool:
    """Whether the stack has an address that others can speak to, on any link."""
    return any(a.scope == "global" and ":" not in a.address for a in stack.addresses or ())


def _suspicion(case: Case, stack: Stack, link: Link, asks: bool) -> Iterator[Suspicion]:
    known = absent_addresses(case, stack, link)
    if not asks and not known:
        return
    yield Suspicion(
        subject=place(stack, link.name),
        summary=f"{link.name} of {stack.name} is up and has no address"
        + (f"; it should have {known[0].address}" if known else ""),
        evidence=(
            address_fact(stack, link.name),
            link_fact(stack, link),
            *(absent.evidence for absent in known),
        ),
        remedies=tuple(
            (AddAddress(stack=stack.name, link=link.name, address=absent.address),)
            for absent in known
        ),
    )
