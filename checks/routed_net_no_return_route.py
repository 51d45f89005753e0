"""A routed network of guests is unknown to the routers beyond the host.

Symptom: the guests' packets reach machines on the LAN, which tcpdump there shows, and no answer
    comes.
Cause: a network that is not translated needs a route back on the LAN's router, by way of this
    host.
Harmless when: the route is there: what lies beyond the uplink cannot be read here.
Evidence: the packet leaves with the guest's own source, in a network that libvirt means to be
    routed.
Fix: on the LAN's router: ip route add NET via HOST. Or a NAT network.
Sources: https://libvirt.org/formatnetwork.html#routed-network-config
"""

from collections.abc import Iterator

from kvmdiag.diagnose.case import Case, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.nets import ROUTED, libvirt_network
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.trace import Reason


@check(severity=Severity.WARNING, needs={Facts.LINKS, Facts.ADDRESSES})
def routed_net_no_return_route(case: Case) -> Iterator[Suspicion]:
    """A packet of a routed network has left, and nothing shows the way back."""
    if case.reason is not Reason.NO_RETURN_ROUTE:
        return
    last = case.walk.request.end
    network = libvirt_network(case.snapshot, last.packet.src)
    stack = case.stack(last.stack)
    if network is None or network.mode not in ROUTED or stack is None:
        return
    yield Suspicion(
        subject=place(stack, last.link or "-"),
        summary=f"whether the routers beyond {last.link} know the way back to "
        f"{last.packet.src} of the routed network {network.name} cannot be read here",
        evidence=(Evidence(f"network {network.name} has mode {network.mode}", "libvirt"),),
        proof=f"tcpdump -ni {last.link} icmp: the request goes out and no answer comes in; or "
        "ask the router beyond: ip route get",
    )
