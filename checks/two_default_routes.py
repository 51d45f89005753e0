"""A machine has two default routes, and packets take the one that does not lead there.

Symptom: it works now and then, or until the "other" link dies; packets leave by another NIC than
    expected.
Cause: two NICs configured by DHCP, or DHCP on a NIC and on its bridge, each bring a default
    route; the lower metric wins.
Harmless when: different metrics are an ordinary spare, as long as the preferred one works; VPNs
    split 0.0.0.0/1 and 128.0.0.0/1 on purpose.
Evidence: the path fails by one default route and works when that route is gone.
Fix: netplan dhcp4-overrides: use-routes: false (or a greater route-metric) for the NIC that is
    not to be used; now: ip route del default via GATEWAY dev IF.
Sources: ip-route(8), systemd.network(5) (RouteMetric=), netplan(5)
"""

from collections.abc import Iterator

from kvmdiag.actions.route import DeleteRoute
from kvmdiag.diagnose.case import Case
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.nets import defaults
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.trace import Outcome, RouteRef, Stage


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.ROUTES})
def two_default_routes(case: Case) -> Iterator[Suspicion]:
    """Each stack that sends the packet by one of several default routes."""
    if case.trace.outcome is Outcome.UNKNOWN:
        return  # another way can be told, which does not show that this one fails
    done = set()
    for hop in case.walk.hops:
        stack = case.stack(hop.stack)
        if stack is None or stack.name in done or not isinstance(hop.decider, RouteRef):
            continue
        found = defaults(stack, hop.packet.version)
        if hop.stage not in (Stage.ROUTE, Stage.OUTPUT) or len(found) < 2:
            continue
        used = next((r for r in found if r.text == hop.decider.text), None)
        if used is None or len({h.link for r in found for h in r.next_hops}) < 2:
            continue
        done.add(stack.name)
        yield Suspicion(
            subject=stack.name,
            summary=f"{stack.name} has {len(found)} default routes and uses {used.text}",
            evidence=tuple(
                Evidence(route.text, f"ip route table {route.table} in {stack.name}")
                for route in found
            ),
            remedies=((DeleteRoute(stack=stack.name, route=used),),),
            at=hop,
        )
