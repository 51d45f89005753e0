"""A machine refuses a source, because its own way there is by another link.

Symptom: packets arrive and are gone without a trace; or ARP goes unanswered, though the address is
    there and nothing is filtered.
Cause: the reverse path filter is strict, and the route back to the sender leaves by another link:
    asymmetric routing on purpose, or a route that leads the wrong way. A question by ARP is
    checked like a packet, and not answered.
Harmless when: the filter is loose (2) or off, or each sender is heard where the route to it leads.
Evidence: max(net.ipv4.conf.all.rp_filter, net.ipv4.conf.IF.rp_filter) = 1, and the route back;
    TcpExt: IPReversePathFilter rises with each packet, not with ARP.
Fix: sysctl -w net.ipv4.conf.IF.rp_filter=2, where the routes are meant; else delete the wrong one.
Sources: net/ipv4/fib_frontend.c (__fib_validate_source), net/ipv4/arp.c (arp_process), RFC 3704
"""

from collections.abc import Iterator

from kvmdiag.actions.route import DeleteRoute
from kvmdiag.diagnose.case import Case, place
from kvmdiag.diagnose.check import Facts, Remedy, Suspicion, Turn, check
from kvmdiag.diagnose.refused import refused_source
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.trace import Reason


@check(severity=Severity.ERROR, needs={Facts.ROUTES, Facts.SYSCTLS}, turn=Turn.LAST)
def strict_rp_filter(case: Case) -> Iterator[Suspicion]:
    """A packet or a question ends at the filter, whatever made its route go elsewhere."""
    refused = refused_source(case, Reason.RP_FILTER)
    if refused is None:
        return
    stack, route = refused.stack, refused.way_back(case)
    what = "does not answer" if refused.asks else "drops what comes from"
    evidence = list(refused.strictness)
    remedies: list[Remedy] = [refused.loosening]
    if route is not None:
        evidence.append(Evidence(route.text, f"ip route table {route.table} in {stack.name}"))
        if route.type == "unicast" and route.protocol != "kernel":
            remedies.append((DeleteRoute(stack=stack.name, route=route),))
    yield Suspicion(
        subject=place(stack, refused.link),
        summary=f"{stack.name} {what} {refused.source} on {refused.link}: its own way there is "
        + ("by another link" if route is not None else "missing"),
        evidence=tuple(evidence),
        remedies=tuple(remedies),
    )
