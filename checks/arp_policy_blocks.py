"""A machine is set not to answer ARP for its own address.

Symptom: the gateway's, or a guest's, MAC address is never learnt; everything else about it looks
    right.
Cause: arp_ignore 8 (or 1, 2 with the address on another link), set for a load balancer or by
    hardening.
Harmless when: arp_ignore is 1 or 2 and the address is on the link that is asked (LVS,
    keepalived).
Evidence: nobody answers for the next hop, and the machine that has its address is set to keep
    quiet.
Fix: sysctl -w net.ipv4.conf.IF.arp_ignore=0 (and .all, the larger one counts).
Sources: net/ipv4/arp.c (arp_ignore), Documentation/networking/ip-sysctl.rst
"""

from collections.abc import Iterator

from kvmdiag.actions.sysctl import SetSysctl
from kvmdiag.diagnose.case import (
    Case,
    conf,
    number,
    place,
    sysctl_fact,
)
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.model.report import Severity
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Stage


@check(severity=Severity.ERROR, needs={Facts.ADDRESSES, Facts.SYSCTLS})
def arp_policy_blocks(case: Case) -> Iterator[Suspicion]:
    """Each stack that could answer for an unresolved next hop, and is told not to."""
    if case.end.stage is not Stage.NEIGHBOUR:
        return
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


def _links(stack: Stack) -> Iterator[str]:
    for link in stack.links or ():
        yield conf(link.name, "arp_ignore")
