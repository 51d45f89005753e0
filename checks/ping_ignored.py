"""A machine is set not to answer pings; the network is not at fault.

Symptom: ping gets no answer at all, while TCP to the same address works.
Cause: icmp_echo_ignore_all, set by hardening guides and some images.
Harmless when: it is meant so: then test with --proto tcp --port N, where something listens.
Evidence: the echo request arrives at the machine, whose net.ipv4.icmp_echo_ignore_all (IPv6:
    net.ipv6.icmp.echo_ignore_all) is 1.
Fix: sysctl -w net.ipv4.icmp_echo_ignore_all=0.
Sources: net/ipv4/icmp.c (icmp_echo), net/ipv6/icmp.c (icmpv6_rcv),
    Documentation/networking/ip-sysctl.rst
"""

from collections.abc import Iterator

from kvmdiag.actions.sysctl import SetSysctl
from kvmdiag.diagnose.case import Case, sysctl_fact
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.model.report import Severity
from kvmdiag.model.trace import Reason, SysctlRef


@check(severity=Severity.WARNING, needs={Facts.SYSCTLS})
def ping_ignored(case: Case) -> Iterator[Suspicion]:
    """The echo request got there, and a sysctl of that machine ends it."""
    stack, ref = case.here, case.decider
    if case.reason is not Reason.NO_LISTENER or stack is None or not isinstance(ref, SysctlRef):
        return
    names = [name for name, _ in ref.values]
    yield Suspicion(
        subject=stack.name,
        summary=f"{stack.name} gets the ping and is set not to answer any",
        evidence=tuple(sysctl_fact(stack, name) for name in names),
        remedies=((SetSysctl(stack=stack.name, values=tuple((n, "0") for n in names)),),),
    )
