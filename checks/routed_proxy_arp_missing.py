"""A guest has an address of the LAN behind a host that routes, and nobody answers ARP for it.

Symptom: machines on the LAN ask "who has" the guest's address and get no answer; the guest's
    packets do get out.
Cause: the guest is not on the LAN's link, and the host does not answer in its place.
Harmless when: the guest's address is not in the LAN's subnet, or the LAN's router has a route to
    it.
Evidence: the packet leaves with a source in the uplink's own network after it was routed, and
    proxy_arp is off there.
Fix: sysctl -w net.ipv4.conf.UPLINK.proxy_arp=1, with a /32 route to the guest.
Sources: net/ipv4/arp.c (arp_fwd_proxy), RFC 1027
"""

from collections.abc import Iterator

from kvmdiag.actions.sysctl import SetSysctl
from kvmdiag.diagnose.case import Case, address_fact, conf, link_of, owns, place, sysctl_fact
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.nets import connected
from kvmdiag.model.report import Severity
from kvmdiag.model.trace import Outcome, Reason


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.ADDRESSES, Facts.SYSCTLS})
def routed_proxy_arp_missing(case: Case) -> Iterator[Suspicion]:
    """A routed packet has left with a source that its uplink's network holds."""
    if case.reason is not Reason.NO_RETURN_ROUTE or case.walk.request.outcome is not Outcome.LEFT:
        return
    last = case.walk.request.end
    stack, source = case.stack(last.stack), last.packet.src
    if stack is None or last.link is None or owns(stack, source):
        return
    link = link_of(stack, last.link)
    inner = link.master if link is not None and link.master else last.link
    if not any(source in network for network in connected(stack, inner)):
        return
    own = conf(inner, "proxy_arp")
    yield Suspicion(
        subject=place(stack, inner),
        summary=f"{source} is in the network of {inner}, and {stack.name} does not answer ARP "
        "for it there",
        evidence=(sysctl_fact(stack, own), address_fact(stack, inner)),
        remedies=((SetSysctl(stack=stack.name, values=((own, "1"),)),),),
        at=last,
    )
