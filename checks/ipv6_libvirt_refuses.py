"""Libvirt does not start an IPv6 network that would cost the host its own default route.

Symptom: net-start fails: "... accept_ra set to 2 ... will cause the kernel to flush".
Cause: the network needs forwarding, with which the host would ignore the router advertisements
    its route came from.
Harmless when: the default route is set by hand or by networkd.
Evidence: an IPv6 network is not active, the host has a default route from a router advertisement,
    and accept_ra is 1 there.
Fix: sysctl -w net.ipv6.conf.IF.accept_ra=2, then virsh net-start.
Sources: libvirt src/util/virnetdevip.c (virNetDevIPCheckIPv6Forwarding)
"""

from collections.abc import Iterator

from kvmdiag.actions.sysctl import SetSysctl
from kvmdiag.diagnose.case import conf, number, sysctl_fact
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.nets import defaults
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Evidence, Severity


@survey_check(severity=Severity.ERROR, needs={Facts.ROUTES, Facts.SYSCTLS, Facts.NETWORKS})
def ipv6_libvirt_refuses(survey: Survey) -> Iterator[Suspicion]:
    """An inactive IPv6 network beside a route that forwarding would cost."""
    host = survey.host
    off = [
        n.name
        for n in survey.snapshot.networks or ()
        if not n.active and any(":" in text for text in n.addresses)
    ]
    for route in defaults(host, 6) if host is not None and off else ():
        for hop in route.next_hops:
            own = conf(hop.link or "-", "accept_ra", 6)
            if host is not None and route.protocol == "ra" and number(host, own) == 1:
                yield Suspicion(
                    subject=off[0],
                    summary=f"libvirt does not start {off[0]}: {host.name} would lose its IPv6 "
                    f"default route by {hop.link}",
                    evidence=(sysctl_fact(host, own), Evidence(route.text, "ip -6 route")),
                    remedies=((SetSysctl(stack=host.name, values=((own, "2"),)),),),
                )
