"""A machine is set not to answer ARP for its own address.

Symptom: the gateway's, or a guest's, MAC address is never learnt; everything else about it looks
    right.
Cause: arp_ignore 8 (or 1, 2 with the address on another link), set for a load balancer or by
    hardening; or ARP is off on the link altogether (NOARP), which then asks for nobody either.
Harmless when: arp_ignore is 1 or 2 and the address is on the link that is asked (LVS,
    keepalived).
Evidence: nobody answers for the next hop, and the machine that has its address is set to keep
    quiet.
Fix: sysctl -w net.ipv4.conf.IF.arp_ignore=0 (and .all, the larger one counts); ip link set dev IF
    arp on.
Sources: net/ipv4/arp.c (arp_ignore, arp_rcv, arp_constructor),
    Documentation/networking/ip-sysctl.rst
"""

from collections.abc import Iterator

from kvmdiag.actions.arp import SetArpOn
from kvmdiag.actions.sysctl import SetSysctl
from kvmdiag.diagnose.case import Case, addresses_of, conf, number, place, sysctl_fact
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Stage


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.ADDRESSES, Facts.SYSCTLS})
def arp_policy_blocks(case: Case) -> Iterator[Suspicion]:
    """Each stack that could answer for an unresolved next hop, and is told not to."""
    if case.end.stage is not Stage.NEIGHBOUR:
        return
    yield from _without_arp(case)
    for stack in case.stacks:
        for entry in stack.addresses or ():
            if entry.address not in case.end.decision.split():
                continue
            names = [
                name for name in (conf("all", "arp_ignore"), *_links(stack)) if number(stack, name)
            ]
            if names and stack.name != case.end.stack:
                yield Suspicion(
                    subject=place(stack, entry.link),
                    summary=f"{stack.name} is set not to answer ARP for {entry.address}",
                    evidence=tuple(sysctl_fact(stack, name) for name in names),
                    remedies=(
                        (SetSysctl(stack=stack.name, values=tuple((n, "0") for n in names)),),
                    ),
                )


def _without_arp(case: Case) -> Iterator[Suspicion]:
    """The link that asks, and the one that should answer, if it has no ARP at all."""
    for stack in case.stacks:
        for link in stack.links or ():
            asks = (stack.name, link.name) == (case.end.stack, case.end.link)
            owns = any(str(own.ip) == case.next_hop for own in addresses_of(stack, link.name))
            if link.arp or not (asks or owns):
                continue
            yield Suspicion(
                subject=place(stack, link.name),
                summary=f"ARP is off on {link.name} of {stack.name}: it neither asks nor answers",
                evidence=(
                    Evidence(f"{link.name} has NOARP", f"ip link show {link.name} in {stack.name}"),
                ),
                remedies=((SetArpOn(stack=stack.name, link=link.name),),),
            )


def _links(stack: Stack) -> Iterator[str]:
    for link in stack.links or ():
        yield conf(link.name, "arp_ignore")
