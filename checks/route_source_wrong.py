"""A route makes a machine send from an address by which no answer comes back.

Symptom: everything by that route is dead, also the gateway's own networks, though the route is
    right; "ip route get" shows a src that is not the link's; ping -I with the right address works.
Cause: "src" of the route names another address of the machine: a loopback's or a second network's,
    left over from a move, a VPN or a router's configuration.
Harmless when: everybody on the way back has a route to that address, as with routers that speak
    from their loopback.
Evidence: the packet is sent from the route's src, which is not the address that the machine would
    choose for that link and gateway, and with that one the path works.
Fix: ip route replace the same route without src.
Sources: net/ipv4/fib_semantics.c (fib_result_prefsrc), ip-route(8)
"""

from collections.abc import Iterator

import msgspec

from kvmdiag.actions.route import ReplaceRoute
from kvmdiag.diagnose.case import Case, address_fact, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.sought import route_named
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.stack import Route, Stack
from kvmdiag.model.trace import RouteRef, Stage
from kvmdiag.simulate.facts.addresses import parse_address
from kvmdiag.simulate.facts.source import select_address


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.ADDRESSES, Facts.ROUTES})
def route_source_wrong(case: Case) -> Iterator[Suspicion]:
    """The route by which the request was sent has another source than the kernel would choose."""
    hop = case.walk.request.hops[0]
    stack = case.stack(hop.stack)
    if stack is None or hop.stage is not Stage.OUTPUT or not isinstance(hop.decider, RouteRef):
        return
    route = route_named(stack, hop.decider)
    if route is None or route.preferred_source is None or hop.out_link is None:
        return
    usual = _usual(case, stack, route, hop.out_link)
    if usual in (None, route.preferred_source):
        return
    better = msgspec.structs.replace(route, preferred_source=None)
    simple = len(route.next_hops) == 1 and route.nexthop is None
    yield Suspicion(
        subject=place(stack, hop.out_link),
        summary=f"{stack.name} speaks to {hop.packet.dst} from {route.preferred_source} instead of "
        f"{usual}, because its route says so",
        evidence=(
            Evidence(route.text, f"ip route table {route.table} in {stack.name}"),
            address_fact(stack, hop.out_link),
        ),
        remedies=((ReplaceRoute(stack=stack.name, old=route, new=better),),) if simple else (),
        at=hop,
    )


def _usual(case: Case, stack: Stack, route: Route, link: str) -> str | None:
    """The address that the kernel would choose for a route without src."""
    gateway = route.next_hops[0].gateway
    toward = None if gateway is None else parse_address(gateway)
    view = case.view.stacks[stack.name]
    found = select_address(view, link, toward, version=route.version)
    return None if found is None else str(found)
