"""A route leads to a gateway that no machine on that network is.

Symptom: a guest reaches its own subnet only; what lies beyond is "Destination Host Unreachable"
    after three seconds.
Cause: a mistyped gateway, one of another network, or one that has moved to another address; or
    the guest that is the gateway is off, or was unplugged.
Harmless when: the gateway comes and goes (a VRRP address that is down for the moment); or a port
    of the bridge leads out of this host, where it may be: then nothing is said here.
Evidence: nobody answers for the gateway; every port of the bridge leads to a machine that can be
    seen, and none of them has that address; another one there routes. A neighbour entry with a
    MAC address tells that somebody was there not long ago: then the route is right.
Fix: ip route del default via WRONG, ip route add default via RIGHT dev IF. Of a gateway that was
    there: virsh start GUEST, or plug it in again (virsh attach-interface).
Sources: net/ipv4/arp.c (arp_solicit), ip-route(8)
"""

from collections.abc import Iterator

from kvmdiag.actions.route import AddRoute, DeleteRoute
from kvmdiag.diagnose.case import Case, owns, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.possible_gateways import possible_gateways
from kvmdiag.diagnose.sought import sought_in_vain
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.stack import Stack

_MAIN = 254  # RT_TABLE_MAIN
_OFF = "shutoff"


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.ADDRESSES, Facts.ROUTES})
def gateway_absent(case: Case) -> Iterator[Suspicion]:
    """The route whose gateway nobody has, with each neighbour that could be it."""
    found = sought_in_vain(case)
    if found is None or found.route.table != _MAIN:
        return
    stack, route = found.stack, found.route
    if [hop.gateway for hop in route.next_hops] != [found.address]:
        return
    if any(owns(machine, found.address) for machine in case.stacks) or found.may_be_back(case):
        return
    left = tuple(_left_behind(case, stack, found.address))
    yield Suspicion(
        subject=place(stack, found.link.name),
        summary=f"{stack.name} routes by {found.address}, an address that no machine on "
        f"{found.link.name}'s network has{' any more' if left else ''}",
        evidence=(Evidence(route.text, f"ip route in {stack.name}"), *left, found.known),
        # Who was there is to come back: another gateway would lead around it.
        remedies=()
        if left
        else tuple(
            (
                DeleteRoute(stack=stack.name, route=route),
                AddRoute(stack=stack.name, destination=route.destination, gateway=right, link=name),
            )
            for name, right in possible_gateways(case, stack, case.end.packet.version)
        ),
    )


def _left_behind(case: Case, stack: Stack, gateway: str) -> Iterator[Evidence]:
    """What still tells of a gateway that was there, and of guests that are off."""
    entry = next(
        (e for e in stack.neighbours or () if e.address == gateway and e.mac and not e.proxy), None
    )
    if entry is None or entry.mac is None:
        return
    mac = entry.mac.lower()
    yield Evidence(f"{gateway} was at {mac} ({entry.state})", f"ip neigh in {stack.name}")
    for domain in case.snapshot.domains or ():
        nics = (*domain.nics, *(domain.stored_nics or ()))
        whose = ", which has that MAC address" * any((n.mac or "").lower() == mac for n in nics)
        if domain.state == _OFF:
            yield Evidence(f"{domain.name} is off{whose}", "virsh list --all")
        elif whose:
            yield Evidence(f"{domain.name} has that MAC address", f"virsh domiflist {domain.name}")
