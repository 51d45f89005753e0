"""A guest's NIC is up and has no IPv4 address, or only one it gave itself.

Symptom: the guest has 169.254.x.x or nothing, and reaches nobody.
Cause: DHCP failed on the way (rules, a dead server, a full range), or the guest is not set up to
    ask.
Harmless when: the NIC is a port of a bridge or bond inside the guest, or is meant for IPv6 or for
    nothing.
Evidence: a NIC of the guest is up with a carrier, and no address is on it, while others on its
    bridge have one.
Fix: find where it breaks (kvmdiag check GUEST GATEWAY --proto udp --port 67); inside the guest
    dhclient IF or netplan apply.
Sources: RFC 2131, RFC 3927
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import (
    Case,
    address_fact,
    addresses_of,
    link_fact,
    place,
)
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.model.report import Severity
from kvmdiag.model.trace import (
    Reason,
)


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.ADDRESSES})
def guest_no_lease_or_address(case: Case) -> Iterator[Suspicion]:
    """The source of the path is a guest none of whose NICs has an address."""
    stack = case.stack(case.walk.question.source.stack or "")
    if stack is None or stack.name == case.snapshot.host:
        return
    if case.reason not in (Reason.NO_ROUTE, Reason.NO_ADDRESS, Reason.NO_CARRIER):
        return
    for link in stack.links or ():
        if not link.up or not link.carrier or link.is_loopback or link.master is not None:
            continue
        mine = addresses_of(stack, link.name)
        if link.kind not in (None, "veth") or any(not a.ip.is_link_local for a in mine):
            continue
        yield Suspicion(
            subject=place(stack, link.name),
            summary=f"{link.name} of {stack.name} is up and has no address",
            evidence=(address_fact(stack, link.name), link_fact(stack, link)),
        )
