"""A guest's tap is no longer a port of the bridge it belongs to.

Symptom: after "virsh net-destroy; net-start", or after the bridge was made anew, running guests
    are cut off while newly started ones work.
Cause: deleting a bridge lets go of its ports, and starting the network does not plug running guests
    in again.
Harmless when: the cable is not meant for a bridge: macvtap, user networking, passt, hostdev, and
    taps to which the host routes directly.
Evidence: the tap has no master, and there is a bridge that has an address in the guest's subnet,
    or that libvirt names for this guest.
Fix: ip link set dev TAP master BRIDGE; or restart virtnetworkd (or libvirtd), which does so for
    libvirt's networks. The guest need not be restarted.
Sources: net/bridge/br_if.c (br_dev_delete), libvirt src/network/bridge_driver.c
    (networkNotifyPort).
"""

from collections.abc import Iterator

from kvmdiag.actions.link import SetMaster
from kvmdiag.diagnose.case import Case, address_fact, link_fact, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.model.link import Link
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Reason

_REASONS = {
    Reason.UNRESOLVED,
    Reason.NOT_FOR_US,
    Reason.NO_PORT,
    Reason.NO_CARRIER,
    Reason.RP_FILTER,
    Reason.FORWARDING_OFF,
    Reason.NETFILTER,
    Reason.NO_ROUTE,
}


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.ADDRESSES, Facts.ROUTES})
def net_restart_orphan_taps(case: Case) -> Iterator[Suspicion]:
    """Each tap without a master, with each bridge that it could belong to."""
    if case.reason not in _REASONS:
        return
    for stack, link in case.guest_cables():
        if link.master is not None or _is_routed_to(stack, link):
            continue
        bridges = tuple(_bridges(case, stack, link))
        if not bridges:
            continue
        guest = link.guest or (link.peer.stack if link.peer is not None else "a guest")
        yield Suspicion(
            subject=place(stack, link.name),
            summary=f"{link.name}, the cable of {guest}, is plugged into no bridge",
            evidence=(
                link_fact(stack, link),
                *_guest_side(case, link),
                *(address_fact(stack, bridge) for bridge in bridges),
            ),
            remedies=tuple(
                (SetMaster(stack=stack.name, link=link.name, master=bridge),) for bridge in bridges
            ),
        )


def _guest_side(case: Case, link: Link) -> Iterator[Evidence]:
    guest = None if link.peer is None else case.stack(link.peer.stack)
    if guest is not None and link.peer is not None:
        yield address_fact(guest, link.peer.link)


def _is_routed_to(stack: Stack, link: Link) -> bool:
    """Whether the host routes to this cable by itself, as Calico does."""
    return any(
        hop.link == link.name
        for route in stack.routes or ()
        if route.type == "unicast" and not route.destination.startswith(("fe80:", "ff00:"))
        for hop in route.next_hops
    )


def _bridges(case: Case, stack: Stack, link: Link) -> Iterator[str]:
    """The bridges of this stack that the cable could belong to, the plainest first."""
    named = _named_by_libvirt(case, link)
    for bridge in stack.links or ():
        if bridge.kind == "bridge" and bridge.name in named:
            yield bridge.name
    for bridge in case.homes(stack, link):
        if bridge.name not in named:
            yield bridge.name


def _named_by_libvirt(case: Case, link: Link) -> frozenset[str]:
    """The bridge that the domain's XML names for this tap, itself or by its network."""
    networks = {network.name: network.bridge for network in case.snapshot.networks or ()}
    sources = {
        nic.source
        for domain in case.snapshot.domains or ()
        for nic in domain.nics
        if nic.target == link.name and nic.source is not None and nic.type != "direct"
    }
    return frozenset(networks.get(source) or source for source in sources)
