"""An address stayed on a NIC that has become a port of a bridge.

Symptom: the host, and maybe its guests, lose the LAN right after the NIC was added to the bridge.
Cause: what comes in by a port belongs to the bridge; answers to ARP that the port asks for are
    taken by the bridge, so the port never learns its neighbours.
Harmless when: IPv6 link-local addresses are on every port; OVS' internal ports and the lower link
    of a macvlan are no ports of a bridge.
Evidence: a port of a Linux bridge has an address of its own, and neighbours on it stay
    INCOMPLETE.
Fix: move address and routes to the bridge: ip addr del A dev NIC; ip addr add A dev BRIDGE; ip
    route replace default via GW dev BRIDGE. From a console: the connection is cut in between.
Sources: net/bridge/br_input.c (br_handle_frame), net/ipv4/arp.c (arp_process)
"""

from collections.abc import Iterator

from kvmdiag.actions.address import AddAddress, DeleteAddress
from kvmdiag.actions.route import AddRoute, DeleteRoute
from kvmdiag.diagnose.case import Case, address_fact, addresses_of, link_fact, link_of, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.action import Action
from kvmdiag.model.link import Link
from kvmdiag.model.report import Severity
from kvmdiag.model.stack import Stack


def _on_ports(stack: Stack) -> Iterator[tuple[Link, Link, str]]:
    """Port, bridge and address of each address that a port has."""
    for link in stack.links or ():
        bridge = link_of(stack, link.master)
        if bridge is not None and bridge.kind == "bridge":
            for address in addresses_of(stack, link.name):
                yield link, bridge, str(address)


def _suspicions(stack: Stack) -> Iterator[Suspicion]:
    for port, bridge, address in _on_ports(stack):
        yield Suspicion(
            subject=place(stack, port.name),
            summary=f"{port.name} is a port of {bridge.name} and has {address} itself: what "
            "comes in by it belongs to the bridge",
            evidence=(link_fact(stack, port), address_fact(stack, port.name)),
            remedies=(tuple(_move(stack, port, bridge, address)),),
        )


def _move(stack: Stack, port: Link, bridge: Link, address: str) -> Iterator[Action]:
    ways = [
        (route, hop)
        for route in stack.routes or ()
        if route.table == 254 and route.type == "unicast"
        for hop in route.next_hops
        if hop.link == port.name and hop.gateway is not None
    ]
    yield DeleteAddress(stack=stack.name, link=port.name, address=address)
    yield AddAddress(stack=stack.name, link=bridge.name, address=address)
    for route, hop in ways:
        yield DeleteRoute(stack=stack.name, route=route)
        yield AddRoute(
            stack=stack.name,
            destination=route.destination,
            gateway=hop.gateway,
            link=bridge.name,
        )


def _survey(survey: Survey) -> Iterator[Suspicion]:
    for stack in survey.stacks:
        yield from _suspicions(stack)


@check(
    severity=Severity.ERROR,
    needs={Facts.LINKS, Facts.ADDRESSES, Facts.ROUTES},
    survey=_survey,
)
def bridge_ip_left_on_port(case: Case) -> Iterator[Suspicion]:
    """Each address on a port, in the stacks the packet came through."""
    passed = {hop.stack for hop in case.walk.hops}
    for stack in case.stacks:
        if stack.name in passed:
            yield from _suspicions(stack)
