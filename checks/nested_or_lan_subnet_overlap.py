"""The same addresses are on two links of one machine.

Symptom: "Network is already in use by interface" at net-start; or guests or the host cannot reach
    a part of the LAN.
Cause: libvirt's subnet is also that of the LAN, of the outer host's default network
    (192.168.122.0/24 in a nested host), of a VPN or of Docker. Libvirt compares exact prefixes
    only, so an overlap of unequal ones starts.
Harmless when: the other network is the default route, or another link's own network again without
    a carrier.
Evidence: the packet leaves by one link while another one's network holds its destination too, and
    that is where it is.
Fix: another subnet for libvirt's network (virsh net-edit, net-destroy, net-start, restart
    virtnetworkd); a host route for a single address until then.
Sources: libvirt src/network/bridge_driver_linux.c (networkCheckRouteCollision)
"""

from collections.abc import Iterator

from kvmdiag.actions.route import AddRoute
from kvmdiag.diagnose.case import Case, address_fact, link_of, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.nets import holders
from kvmdiag.model.report import Severity
from kvmdiag.model.trace import RouteRef, Stage


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.ADDRESSES, Facts.ROUTES})
def nested_or_lan_subnet_overlap(case: Case) -> Iterator[Suspicion]:
    """A packet leaves by a connected route while another link holds its address as well."""
    for hop in case.walk.hops:
        stack, ref = case.stack(hop.stack), hop.decider
        if stack is None or not isinstance(ref, RouteRef) or hop.out_link is None:
            continue
        if hop.stage not in (Stage.ROUTE, Stage.OUTPUT):
            continue
        target = hop.packet.dst
        found = list(holders(stack, target))
        mine = next((network for link, network in found if link.name == hop.out_link), None)
        for link, network in found:
            out = link_of(stack, hop.out_link)
            one_bridge = out is not None and hop.out_link in (link.master, link.name)
            if mine is None or one_bridge or (out is not None and out.master == link.name):
                continue
            narrow = f"{target}/{target.max_prefixlen}"
            yield Suspicion(
                subject=place(stack, link.name),
                summary=f"{network} of {link.name} and {mine} of {hop.out_link} overlap in "
                f"{stack.name}, and {target} is looked for on {hop.out_link}",
                evidence=(address_fact(stack, link.name), address_fact(stack, hop.out_link)),
                remedies=((AddRoute(stack=stack.name, destination=narrow, link=link.name),),),
                at=hop,
            )
