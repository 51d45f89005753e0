"""A guest has no route to what lies beyond its own subnet.

Symptom: the guest reaches its subnet only; elsewhere it says "Network is unreachable".
Cause: the default route is missing: it was never configured, DHCP gave no router, or a manual
    change lost it.
Harmless when: the network is isolated, or the NIC is meant for its subnet alone.
Evidence: no route of the guest matches the destination, and on one of its links there is a
    machine that routes: with a default route by that machine the path works.
Fix: ip route add default via GATEWAY dev IF.
Sources: net/ipv4/fib_trie.c (fib_table_lookup), ip-route(8).
"""

from collections.abc import Iterator

from kvmdiag.actions.route import AddRoute
from kvmdiag.diagnose.absent import absent_addresses, is_bare
from kvmdiag.diagnose.case import Case, addresses_of
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.possible_gateways import possible_gateways
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Reason


@check(
    severity=Severity.ERROR,
    needs={Facts.LINKS, Facts.ADDRESSES, Facts.ROUTES, Facts.SYSCTLS},
)
def guest_no_default_route(case: Case) -> Iterator[Suspicion]:
    """A guest that has no route, with each neighbour that could be its gateway."""
    stack = case.here
    if case.reason is not Reason.NO_ROUTE or stack is None or stack.name == case.snapshot.host:
        return
    version = case.end.packet.version
    everything = "0.0.0.0/0" if version == 4 else "::/0"
    if any(route.destination == everything for route in stack.routes or ()):
        return
    if _has_lost_a_link(case, stack):
        return
    gateways = possible_gateways(case, stack, version)
    if not gateways:
        return
    yield Suspicion(
        subject=stack.name,
        summary=f"{stack.name} has no route to {case.end.packet.dst} and no default route",
        evidence=(
            Evidence(
                f"no route to {case.end.packet.dst}; there are: "
                + ("; ".join(_shown_routes(stack, version)) or "none"),
                f"ip route in {stack.name}",
            ),
        ),
        remedies=tuple(
            (AddRoute(stack=stack.name, destination=everything, gateway=gateway, link=link),)
            for link, gateway in gateways
        ),
    )


def _has_lost_a_link(case: Case, stack: Stack) -> bool:
    """Whether a NIC is down or has lost its address: its routes went with that, which is first."""
    for link in stack.links or ():
        if link.peer is None:
            continue
        if not link.up and addresses_of(stack, link.name):
            return True
        if is_bare(stack, link) and absent_addresses(case, stack, link):
            return True
    return False


def _shown_routes(stack: Stack, version: int) -> Iterator[str]:
    for route in stack.routes or ():
        if route.version == version and route.table == 254:
            yield route.text
