"""A route takes what is far away to be on the link itself.

Symptom: "Destination Host Unreachable" after three seconds for all that lies beyond the subnet;
    tcpdump shows ARP questions for addresses of other networks.
Cause: "ip route add default dev IF" without "via GATEWAY", or a network routed to a link on which
    it is not.
Harmless when: a machine on that link answers for all of them (proxy ARP), or the link is a tunnel;
    or a port of the bridge leads out of this host, where they may be: then nothing is said here.
Evidence: nobody answers for the destination; the route by which it was sought has no gateway, and
    the link has no address in a network with it; every machine on that link can be seen.
Fix: ip route replace DESTINATION via GATEWAY dev IF.
Sources: net/ipv4/route.c (rt_nexthop), net/ipv4/arp.c (arp_solicit), ip-route(8)
"""

from collections.abc import Iterator

import msgspec

from kvmdiag.actions.route import ReplaceRoute
from kvmdiag.diagnose.case import Case, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.nets import connected
from kvmdiag.diagnose.possible_gateways import possible_gateways
from kvmdiag.diagnose.sought import sought_in_vain
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.stack import NextHop


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.ADDRESSES, Facts.ROUTES})
def route_without_gateway(case: Case) -> Iterator[Suspicion]:
    """The destination itself was asked for, on a link that is in no network with it."""
    found = sought_in_vain(case)
    if found is None or found.route.next_hops[0].gateway is not None:
        return
    stack, route, target = found.stack, found.route, case.end.packet.dst
    if any(target in network for network in connected(stack, found.link.name)):
        return
    simple = len(route.next_hops) == 1 and route.nexthop is None
    right = possible_gateways(case, stack, target.version) if simple else ()
    yield Suspicion(
        subject=place(stack, found.link.name),
        summary=f"{stack.name} looks for {target} on {found.link.name} itself: its route there has "
        "no gateway",
        evidence=(
            Evidence(route.text, f"ip route table {route.table} in {stack.name}"),
            found.known,
        ),
        remedies=tuple(
            (
                ReplaceRoute(
                    stack=stack.name,
                    old=route,
                    new=msgspec.structs.replace(
                        route,
                        scope="global",
                        preferred_source=None,
                        next_hops=(NextHop(link=link, gateway=gateway),),
                    ),
                ),
            )
            for link, gateway in right
        ),
    )
