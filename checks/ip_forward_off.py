"""A machine that should route packets onwards has forwarding switched off.

Symptom: guests reach the host's addresses and nothing beyond; inside a guest that routes for
    others, the same. A gateway that is only proxied, such as Calico's 169.254.1.1, is silent.
Cause: net.ipv4.ip_forward is 0. Hardening files in sysctl.d, a later "sysctl --system" or a
    restart of the network reset it; libvirt sets it only when a network starts.
Harmless when: the machine only bridges, or the network is isolated: no packet is routed then.
    A value of 1 does not prove forwarding: each interface has its own switch.
Evidence: net.ipv4.ip_forward = 0, and the packet that is to be routed ends there; the
    kernel counts it in Ip: InAddrErrors. Or nobody answers for the next hop on a cable whose
    far end has proxy_arp on: what does not forward does not answer for others.
Fix: sysctl -w net.ipv4.ip_forward=1. Writing a changed value sets every interface's switch.
Sources: net/ipv4/devinet.c (inet_forward_change), net/ipv4/route.c (ip_route_input_slow),
    net/ipv4/arp.c (arp_process), Documentation/networking/ip-sysctl.rst.
"""

from collections.abc import Iterator

from kvmdiag.actions.sysctl import SetSysctl
from kvmdiag.diagnose.case import Case, conf, link_of, number, sysctl_fact
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.model.report import Severity
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Reason


@check(severity=Severity.ERROR, needs={Facts.SYSCTLS})
def ip_forward_off(case: Case) -> Iterator[Suspicion]:
    """A packet ends in a stack whose global switch is off, or before one that is to proxy."""
    found = _silent_proxy(case)
    if case.reason is Reason.FORWARDING_OFF and case.here is not None and case.ingress is not None:
        found = case.here, case.ingress
    if found is None:
        return
    stack, link = found
    version = case.end.packet.version
    name = "net.ipv4.ip_forward" if version == 4 else "net.ipv6.conf.all.forwarding"
    if number(stack, name) != 0:
        return
    yield Suspicion(
        subject=stack.name,
        summary=f"{stack.name} does not forward: {name} is 0",
        evidence=(
            sysctl_fact(stack, name),
            sysctl_fact(stack, conf(link, "forwarding", version)),
        ),
        remedies=((SetSysctl(stack=stack.name, values=((name, "1"),)),),),
    )


def _silent_proxy(case: Case) -> tuple[Stack, str] | None:
    """The far end of the cable on which nobody answers, when it is to answer for others."""
    asker = case.here
    if case.reason is not Reason.UNRESOLVED or asker is None or case.end.packet.version != 4:
        return None
    cable = link_of(asker, case.end.link)
    far = case.stack(cable.peer.stack) if cable is not None and cable.peer is not None else None
    if far is None or cable is None or cable.peer is None:
        return None
    proxies = any(number(far, conf(key, "proxy_arp")) for key in ("all", cable.peer.link))
    return (far, cable.peer.link) if proxies else None
