"""A route or a policy rule says no to this destination.

Symptom: one address or one network is unreachable from this machine, or through it; all else
    works.
Cause: a blackhole, unreachable or prohibit route, or an ip rule of that kind, set by a daemon, a
    script or a person.
Harmless when: it is a safety net behind better routes (a greater metric, a shorter prefix), and
    the packet uses these. Calico's is one for each block of addresses: what ends there was
    sent to a pod that is no more.
Evidence: the packet ends at that route or rule.
Fix: delete it; find who puts it there (FRR, wg-quick, networkd, kube-proxy), or it will come
    back.
Sources: net/ipv4/fib_semantics.c (fib_props), ip-route(8), ip-rule(8)
"""

from collections.abc import Iterator

from kvmdiag.actions.policy_rule import REFUSING, DeletePolicyRule
from kvmdiag.actions.route import DeleteRoute
from kvmdiag.diagnose.case import Case
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.translation import is_calicos_block
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.trace import Reason, RouteRef


@check(severity=Severity.ERROR, needs={Facts.ROUTES, Facts.POLICY_RULES})
def policy_or_blackhole_route(case: Case) -> Iterator[Suspicion]:
    """A packet ends at a route that refuses."""
    stack, ref = case.here, case.decider
    if case.reason is not Reason.NO_ROUTE or stack is None or not isinstance(ref, RouteRef):
        return
    if not any(word in ref.text.split() for word in REFUSING):
        return
    routes = [
        route
        for route in stack.routes or ()
        if route.type in REFUSING and route.text == ref.text and route.table == ref.table
    ]
    rules = [
        rule
        for rule in stack.policy_rules or ()
        if rule.action in REFUSING
        and ref.table == 0
        and ref.text == f"ip rule {rule.priority}: {rule.action}"
        and rule.version == case.end.packet.version
        and not rule.unknown
    ]
    if any(route.type == "blackhole" and is_calicos_block(stack, route) for route in routes):
        return
    yield Suspicion(
        subject=stack.name,
        summary=f"{stack.name} has a {'route' if routes else 'rule'} that refuses "
        f"{case.end.packet.dst}: {ref.text}",
        evidence=(Evidence(ref.text, f"{ref if routes else 'ip rule'} in {stack.name}"),),
        remedies=(
            *((DeleteRoute(stack=stack.name, route=route),) for route in routes),
            *((DeletePolicyRule(stack=stack.name, rule=rule),) for rule in rules),
        ),
    )
