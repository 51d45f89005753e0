"""A network of Docker's covers addresses that are really elsewhere.

Symptom: part of the LAN or of a VPN is unreachable from the host and its guests since a container
    network was made.
Cause: Docker takes 172.17 to 172.31 and 192.168 ranges for its bridges unless told otherwise; the
    connected route wins over the default one.
Harmless when: nothing outside has addresses in that range.
Evidence: the packet goes out by a bridge of Docker's (docker0, br-...) and nobody is there with
    its address.
Fix: "default-address-pools" in Docker's daemon.json, and make the network anew; a route for that
    one address until then.
Sources: https://docs.docker.com/engine/network/, ip-route(8)
"""

from collections.abc import Iterator

from kvmdiag.actions.route import AddRoute
from kvmdiag.diagnose.case import Case, address_fact, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.nets import defaults
from kvmdiag.model.report import Severity
from kvmdiag.model.trace import Reason


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.ADDRESSES, Facts.ROUTES})
def docker_subnet_overlap(case: Case) -> Iterator[Suspicion]:
    """A packet ends on a bridge of Docker's for want of anybody with its address."""
    end, stack = case.end, case.here
    link = end.out_link or end.link
    docker = link is not None and (link.startswith(("docker", "br-")) and len(link) in (7, 15))
    if stack is None or not docker or case.trace is not case.walk.request or link is None:
        return
    if case.reason not in (Reason.UNRESOLVED, Reason.NO_PORT, Reason.NO_CARRIER, Reason.LINK_DOWN):
        return
    target = end.packet.dst
    ways = [h for r in defaults(stack, target.version) for h in r.next_hops if h.gateway and h.link]
    yield Suspicion(
        subject=place(stack, link),
        summary=f"{target} is in the range of Docker's bridge {link}, and no container has it",
        evidence=(address_fact(stack, link),),
        remedies=tuple(
            (
                AddRoute(
                    stack=stack.name,
                    destination=f"{target}/{target.max_prefixlen}",
                    gateway=hop.gateway,
                    link=hop.link or "",
                ),
            )
            for hop in ways
        ),
    )
