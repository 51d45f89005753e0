"""A machine that should route packets onwards has forwarding switched off.

Symptom: guests reach the host's addresses and nothing beyond; inside a guest that routes for
    others, the same.
Cause: net.ipv4.ip_forward is 0. Hardening files in sysctl.d, a later "sysctl --system" or a
    restart of the network reset it; libvirt sets it only when a network starts.
Harmless when: the machine only bridges, or the network is isolated: no packet is routed then.
    A value of 1 does not prove forwarding: each interface has its own switch.
Evidence: net.ipv4.ip_forward = 0, and the packet that is to be routed ends there; the
    kernel counts it in Ip: InAddrErrors.
Fix: sysctl -w net.ipv4.ip_forward=1. Writing a changed value sets every interface's switch.
Sources: net/ipv4/devinet.c (inet_forward_change), net/ipv4/route.c (ip_route_input_slow),
    Documentation/networking/ip-sysctl.rst.
"""

from collections.abc import Iterator

from kvmdiag.actions.sysctl import SetSysctl
from kvmdiag.diagnose.case import Case, conf, number, sysctl_fact
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.model.report import Severity
from kvmdiag.model.trace import Reason


@check(severity=Severity.ERROR, needs={Facts.SYSCTLS})
def ip_forward_off(case: Case) -> Iterator[Suspicion]:
    """A packet ends in a stack whose global switch is off."""
    stack = case.here
    if case.reason is not Reason.FORWARDING_OFF or stack is None or case.ingress is None:
        return
    version = case.end.packet.version
    name = "net.ipv4.ip_forward" if version == 4 else "net.ipv6.conf.all.forwarding"
    if number(stack, name) != 0:
        return
    yield Suspicion(
        subject=stack.name,
        summary=f"{stack.name} does not forward: {name} is 0",
        evidence=(
            sysctl_fact(stack, name),
            sysctl_fact(stack, conf(case.ingress, "forwarding", version)),
        ),
        remedies=((SetSysctl(stack=stack.name, values=((name, "1"),)),),),
    )
