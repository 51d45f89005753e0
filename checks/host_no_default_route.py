"""The host has no way to the outside: no default route, or no address to go out with.

Symptom: guests and host reach what is connected to the host and nothing beyond; the host says
    "Network is unreachable".
Cause: the default route was deleted, or went with its link or address and was not put back; DHCP on
    the uplink gave none.
Harmless when: the host is meant for its own networks only, or a route for just this destination is
    there.
Evidence: no route of the host matches the destination, and its main table has no default route.
Fix: ip route add default via GATEWAY dev UPLINK, after the address: ip addr add; netplan apply or
    networkctl renew UPLINK put back what is configured.
Sources: net/ipv4/fib_frontend.c (fib_disable_ip), ip-route(8)
"""

from collections.abc import Iterator
from ipaddress import ip_address

from kvmdiag.actions.route import AddRoute
from kvmdiag.diagnose.case import Case, address_fact, addresses_of, place
from kvmdiag.diagnose.check import Facts, Remedy, Suspicion, check
from kvmdiag.diagnose.nets import connected, defaults, ports_of
from kvmdiag.model.link import Link
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Reason


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.ADDRESSES, Facts.ROUTES})
def host_no_default_route(case: Case) -> Iterator[Suspicion]:
    """The host has no route for the packet and none for everything."""
    host, target = case.here, case.end.packet.dst
    if host is None or host.name != case.snapshot.host or case.decider is not None:
        return
    if case.reason not in (Reason.NO_ROUTE, Reason.NO_ADDRESS):
        return
    if defaults(host, target.version):
        return
    uplinks = [link for link in host.links or () if _leads_out(host, link)]
    bare = [link for link in uplinks if not addresses_of(host, link.name)]
    missing = "no address on its uplinks" if bare == uplinks else "no default route"
    yield Suspicion(
        subject=place(host, uplinks[0].name) if len(uplinks) == 1 else host.name,
        summary=f"{host.name} has no route to {target}: it has {missing}",
        evidence=(
            Evidence(f"no route to {target}", f"ip route in {host.name}"),
            *(address_fact(host, link.name) for link in uplinks),
        ),
        remedies=tuple(_remedies(host, uplinks, target.version)),
    )


def _leads_out(host: Stack, link: Link) -> bool:
    """Whether a link is an uplink that is up, or the bridge that one is plugged into."""
    if link.kind == "bridge":
        return any(port.is_uplink for port in ports_of(host, link.name))
    return link.is_uplink and link.up and link.carrier and link.master is None


def _remedies(host: Stack, uplinks: list[Link], version: int) -> Iterator[Remedy]:
    """By way of a router that the host still remembers, or uses for other routes."""
    everything = "0.0.0.0/0" if version == 4 else "::/0"
    for link in uplinks:
        known = [hop.gateway for route in host.routes or () for hop in route.next_hops
                 if hop.link == link.name and hop.gateway]  # fmt: skip
        known += [n.address for n in host.neighbours or () if n.link == link.name and n.router]
        for gateway in dict.fromkeys(known):
            near = any(ip_address(gateway) in network for network in connected(host, link.name))
            if near and (":" in gateway) == (version == 6):
                yield (
                    AddRoute(
                        stack=host.name, destination=everything, gateway=gateway, link=link.name
                    ),
                )
