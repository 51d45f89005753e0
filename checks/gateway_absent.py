"""A route leads to a gateway that no machine on that network is.

Symptom: a guest reaches its own subnet only; what lies beyond is "Destination Host Unreachable"
    after three seconds.
Cause: a mistyped gateway, one of another network, or one that has moved to another address.
Harmless when: the gateway comes and goes (a VRRP address that is down for the moment); or a port
    of the bridge leads out of this host, where it may be: then nothing is said here.
Evidence: nobody answers for the gateway; every port of the bridge leads to a machine that can be
    seen, and none of them has that address; another one there routes.
Fix: ip route del default via WRONG, ip route add default via RIGHT dev IF.
Sources: net/ipv4/arp.c (arp_solicit), ip-route(8)
"""

from collections.abc import Iterator

from kvmdiag.actions.route import AddRoute, DeleteRoute
from kvmdiag.diagnose.case import Case, owns, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.possible_gateways import possible_gateways
from kvmdiag.diagnose.sought import sought_in_vain
from kvmdiag.model.report import Evidence, Severity

_MAIN = 254  # RT_TABLE_MAIN


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
    yield Suspicion(
        subject=place(stack, found.link.name),
        summary=f"{stack.name} routes by {found.address}, an address that no machine on "
        f"{found.link.name}'s network has",
        evidence=(Evidence(route.text, f"ip route in {stack.name}"), found.known),
        remedies=tuple(
            (
                DeleteRoute(stack=stack.name, route=route),
                AddRoute(stack=stack.name, destination=route.destination, gateway=right, link=name),
            )
            for name, right in possible_gateways(case, stack, case.end.packet.version)
        ),
    )
