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
from kvmdiag.diagnose.absent import absent_addresses, is_bare
from kvmdiag.diagnose.case import Case, address_fact, link_of, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.possible_gateways import possible_gateways
from kvmdiag.model.link import Link
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.stack import Route, Stack
from kvmdiag.model.trace import Reason

_MAIN = 254  # RT_TABLE_MAIN


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.ADDRESSES, Facts.ROUTES})
def gateway_absent(case: Case) -> Iterator[Suspicion]:
    """The route whose gateway nobody has, with each neighbour that could be it."""
    stack, gateway = case.here, case.next_hop
    if case.reason is not Reason.UNRESOLVED or stack is None or gateway is None:
        return
    route = _route(stack, gateway, case.end.out_link or case.end.link)
    link = None if route is None else link_of(stack, route.next_hops[0].link)
    if route is None or link is None:
        return
    around = _machines(case, stack, link)
    if around is None or _is_somebodys(case, around, gateway):
        return
    known = ", ".join(
        address_fact(machine, own.name).fact + f" in {machine.name}" for machine, own in around
    )
    yield Suspicion(
        subject=place(stack, link.name),
        summary=f"{stack.name} routes by {gateway}, an address that no machine on {link.name}'s "
        "network has",
        evidence=(
            Evidence(route.text, f"ip route in {stack.name}"),
            Evidence(f"on that network: {known}", "ip addr show of every machine there"),
        ),
        remedies=tuple(
            (
                DeleteRoute(stack=stack.name, route=route),
                AddRoute(stack=stack.name, destination=route.destination, gateway=right, link=name),
            )
            for name, right in possible_gateways(case, stack, case.end.packet.version)
        ),
    )


def _route(stack: Stack, gateway: str, link: str | None) -> Route | None:
    """The route of the main table that leads to this gateway alone."""
    return next(
        (
            route
            for route in stack.routes or ()
            if route.table == _MAIN
            and [(hop.gateway, hop.link) for hop in route.next_hops] == [(gateway, link)]
        ),
        None,
    )


def _machines(case: Case, stack: Stack, link: Link) -> tuple[tuple[Stack, Link], ...] | None:
    """Who else is on a guest's network, and by which link; ``None``: not all can be seen."""
    found = []
    for owner, bridge in case.segments(link):
        found.append((owner, bridge))
        for port in owner.links or ():
            if port.master != bridge.name:
                continue
            machine = None if port.peer is None else case.stack(port.peer.stack)
            nic = None if machine is None or port.peer is None else link_of(machine, port.peer.link)
            if machine is None or nic is None:
                return None
            if machine.name != stack.name:
                found.append((machine, nic))
    return tuple(found) or None


def _is_somebodys(case: Case, around: tuple[tuple[Stack, Link], ...], address: str) -> bool:
    """Whether a machine has the address, or a link there has lost what may be this one."""
    if any(own.address == address for machine in case.stacks for own in machine.addresses or ()):
        return True
    return any(
        not link.up
        or (
            is_bare(machine, link)
            and any(
                absent.address.split("/")[0] == address
                for absent in absent_addresses(case, machine, link)
            )
        )
        for machine, link in around
    )
