"""Forwarding made the host ignore router advertisements, and its IPv6 default route went.

Symptom: the host loses IPv6 some minutes after Docker or libvirt was started.
Cause: with forwarding on the kernel accepts router advertisements only where accept_ra is 2.
Harmless when: systemd-networkd or NetworkManager read them themselves: then the kernel's
    accept_ra is 0. Or the default route is set by hand.
Evidence: net.ipv6.conf.all.forwarding = 1, an uplink with a global address has accept_ra = 1, and
    there is no IPv6 default route.
Fix: sysctl -w net.ipv6.conf.IF.accept_ra=2.
Sources: Documentation/networking/ip-sysctl.rst (accept_ra), net/ipv6/ndisc.c (ipv6_accept_ra)
"""

from collections.abc import Iterator

from kvmdiag.actions.sysctl import SetSysctl
from kvmdiag.diagnose.case import addresses_of, conf, number, place, sysctl_fact
from kvmdiag.diagnose.check import Facts, Suspicion, survey_check
from kvmdiag.diagnose.nets import defaults
from kvmdiag.diagnose.survey import Survey
from kvmdiag.model.report import Severity


@survey_check(severity=Severity.WARNING, needs={Facts.LINKS, Facts.ROUTES, Facts.SYSCTLS})
def ipv6_ra_lost_on_forwarding(survey: Survey) -> Iterator[Suspicion]:
    """The host, when an uplink has addresses of IPv6 and no way out."""
    host = survey.host
    if host is None or number(host, "net.ipv6.conf.all.forwarding") != 1 or defaults(host, 6):
        return
    for link in host.links or ():
        own = conf(link.name, "accept_ra", 6)
        using = any(a.version == 6 for a in addresses_of(host, link.name))
        if link.is_uplink and using and number(host, own) == 1:
            yield Suspicion(
                subject=place(host, link.name),
                summary=f"{host.name} forwards IPv6 and so ignores the routers on {link.name}",
                evidence=(
                    sysctl_fact(host, "net.ipv6.conf.all.forwarding"),
                    sysctl_fact(host, own),
                ),
                remedies=((SetSysctl(stack=host.name, values=((own, "2"),)),),),
            )
