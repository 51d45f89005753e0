"""A route more specific than the guests' network leads its addresses elsewhere.

Symptom: the host loses some or all of its guests when a VPN connects.
Cause: the VPN pushes a route for a part of the guests' subnet; the longer prefix wins over the
    connected one.
Harmless when: the pushed route is for the same network with a shorter prefix: the connected one
    wins.
Evidence: the packet for a guest leaves by another link than the one whose network holds it, by a
    longer prefix.
Fix: ip route add GUEST/32 dev BRIDGE for now; another subnet for the guests, or less from the VPN
    (AllowedIPs, route-nopull).
Sources: net/ipv4/fib_trie.c, wg-quick(8)
"""

from collections.abc import Iterator
from ipaddress import ip_network

from kvmdiag.actions.route import AddRoute, DeleteRoute
from kvmdiag.diagnose.case import Case, address_fact, place
from kvmdiag.diagnose.check import Facts, Remedy, Suspicion, check
from kvmdiag.diagnose.nets import holders
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.trace import RouteRef, Stage


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.ADDRESSES, Facts.ROUTES})
def vpn_specific_route_steals_guest_net(case: Case) -> Iterator[Suspicion]:
    """A packet leaves by a route longer than the connected network that holds its address."""
    for hop in case.walk.hops:
        stack, ref = case.stack(hop.stack), hop.decider
        if stack is None or not isinstance(ref, RouteRef):
            continue
        if hop.stage not in (Stage.ROUTE, Stage.OUTPUT) or hop.out_link is None:
            continue
        target = hop.packet.dst
        used = next((r for r in stack.routes or () if r.text == ref.text), None)
        for link, network in holders(stack, target):
            if used is None or link.name == hop.out_link or used.type != "unicast":
                continue
            if ip_network(used.destination).prefixlen <= network.prefixlen:
                continue
            narrow = f"{target}/{target.max_prefixlen}"
            add = AddRoute(stack=stack.name, destination=narrow, link=link.name)
            remedies: tuple[Remedy, ...] = ((DeleteRoute(stack=stack.name, route=used),),)
            if used.destination != narrow:
                remedies = ((add,), *remedies)
            yield Suspicion(
                subject=place(stack, link.name),
                summary=f"{stack.name} sends {target} out by {hop.out_link}, though it is in "
                f"{network} of {link.name}: {used.text} is more specific",
                evidence=(
                    Evidence(used.text, f"ip route table {used.table} in {stack.name}"),
                    address_fact(stack, link.name),
                ),
                remedies=remedies,
                at=hop,
            )
