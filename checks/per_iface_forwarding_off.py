"""Forwarding is on, but not for the interface by which the packets come in.

Symptom: ip_forward is 1, and guests still reach nothing beyond the host, or replies never come
    back to them.
Cause: the kernel reads the switch of the incoming interface, net.ipv4.conf.IF.forwarding.
    systemd-networkd sets it per link, and an interface made earlier keeps its own value.
Harmless when: the interface is not one by which packets come in to be routed.
Evidence: net.ipv4.ip_forward = 1, net.ipv4.conf.IF.forwarding = 0, and a packet that came in by
    IF ends there. Off on the uplink it is only the replies that are lost.
Fix: sysctl -w net.ipv4.conf.IF.forwarding=1. Writing 1 to ip_forward again changes nothing.
Sources: net/ipv4/route.c (ip_route_input_slow), net/ipv4/devinet.c (devinet_sysctl_forward),
    systemd.network(5), IPv4Forwarding=.
"""

from collections.abc import Iterator

from kvmdiag.actions.sysctl import SetSysctl
from kvmdiag.diagnose.case import Case, conf, number, place, sysctl_fact
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.model.report import Severity
from kvmdiag.model.trace import Reason


@check(severity=Severity.ERROR, needs={Facts.SYSCTLS})
def per_iface_forwarding_off(case: Case) -> Iterator[Suspicion]:
    """A packet ends in a stack that forwards in general, but not from this interface."""
    stack = case.here
    if case.reason is not Reason.FORWARDING_OFF or stack is None or case.ingress is None:
        return
    version = case.end.packet.version
    everywhere = "net.ipv4.ip_forward" if version == 4 else "net.ipv6.conf.all.forwarding"
    own = conf(case.ingress, "forwarding", version)
    if number(stack, everywhere) == 0 or number(stack, own) != 0:
        return
    yield Suspicion(
        subject=place(stack, case.ingress),
        summary=f"{stack.name} does not forward what comes in by {case.ingress}",
        evidence=(sysctl_fact(stack, everywhere), sysctl_fact(stack, own)),
        remedies=((SetSysctl(stack=stack.name, values=((own, "1"),)),),),
    )
