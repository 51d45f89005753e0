"""A guest with several NICs drops replies that come in by another NIC than its route says.

Symptom: "ping -I ens3" fails, although tcpdump in the guest shows request and reply on ens3;
    without the other NIC's default route it works.
Cause: the reverse path filter is strict: the reply comes in by one NIC, and the guest's route to
    its sender goes by another.
Harmless when: the guest has one NIC, every sender is reached by the NIC it is heard on, or the
    filter is loose (2).
Evidence: max(net.ipv4.conf.all.rp_filter, net.ipv4.conf.IF.rp_filter) = 1; the route back leaves by
    another link; TcpExt: IPReversePathFilter rises with every reply.
Fix: sysctl -w net.ipv4.conf.IF.rp_filter=2, which suffices because the larger of the two counts;
    or policy routing by source address.
Sources: net/ipv4/fib_frontend.c (__fib_validate_source), RFC 3704,
    Documentation/networking/ip-sysctl.rst.
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import Case, address_fact, addresses_of, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.refused import refused_source
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Reason


@check(
    severity=Severity.ERROR,
    needs={Facts.LINKS, Facts.ADDRESSES, Facts.ROUTES, Facts.SYSCTLS},
)
def guest_rp_filter_multihomed(case: Case) -> Iterator[Suspicion]:
    """A packet for the guest itself, or a question, ends at the guest's reverse path filter."""
    refused = refused_source(case, Reason.RP_FILTER)
    if refused is None:
        return
    stack, link, source = refused.stack, refused.link, refused.source
    homes = _homes(stack)
    if stack.name == case.snapshot.host or len(homes) < 2:
        return
    yield Suspicion(
        subject=place(stack, link),
        summary=f"{stack.name} drops what {source} sends to {link}: its route to {source} "
        "leaves by another link, and the reverse path filter is strict",
        evidence=(
            *refused.strictness,
            *(address_fact(stack, home) for home in homes),
            *_default_routes(stack),
        ),
        remedies=(refused.loosening,),
    )


def _homes(stack: Stack) -> tuple[str, ...]:
    """The links by which others reach this stack."""
    return tuple(
        link.name
        for link in stack.links or ()
        if not link.is_loopback and addresses_of(stack, link.name)
    )


def _default_routes(stack: Stack) -> Iterator[Evidence]:
    for route in stack.routes or ():
        if route.destination == "0.0.0.0/0":
            yield Evidence(route.text, f"ip route table {route.table} in {stack.name}")
