"""A neighbour was entered by hand with a MAC address that is no longer its own.

Symptom: one machine is unreachable from another, and reachable from everywhere else.
Cause: a permanent entry of the neighbour table is believed and never asked about; the NIC behind
    it has changed.
Harmless when: the entry is meant, as for an anycast gateway or KubeVirt's 02:00:00:00:00:00.
Evidence: the entry's MAC address is not that of the machine which has the address.
Fix: ip neigh del ADDRESS dev IF; find what sets it.
Sources: net/core/neighbour.c, ip-neighbour(8)
"""

from collections.abc import Iterator

from kvmdiag.actions.neighbour import DeleteNeighbour
from kvmdiag.diagnose.case import Case, link_of, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.model.link import Link
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.stack import Neighbour, Stack


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.ADDRESSES, Facts.NEIGHBOURS})
def static_neigh_wrong(case: Case) -> Iterator[Suspicion]:
    """Each permanent entry on the way that names another MAC address than its owner has."""
    passed = {hop.stack for hop in case.walk.hops}
    for stack in case.stacks:
        for entry in stack.neighbours or ():
            if stack.name not in passed or entry.state not in ("permanent", "noarp"):
                continue
            owner = _owner(case, entry)
            link = link_of(stack, entry.link)
            if link is not None and not link.arp and entry.mac == link.mac:
                continue  # the kernel's own, for a device without ARP
            if owner is not None and owner[1].mac not in (None, entry.mac):
                yield _wrong(stack, entry, *owner)


def _owner(case: Case, entry: Neighbour) -> tuple[Stack, Link] | None:
    for stack in case.stacks:
        for address in stack.addresses or ():
            link = link_of(stack, address.link)
            if address.address == entry.address and link is not None and not link.is_loopback:
                return stack, link
    return None


def _wrong(stack: Stack, entry: Neighbour, owner: Stack, link: Link) -> Suspicion:
    delete = DeleteNeighbour(stack=stack.name, link=entry.link, address=entry.address)
    return Suspicion(
        subject=place(stack, entry.link),
        summary=f"{stack.name} believes {entry.address} to be at {entry.mac}; {owner.name}, "
        f"which has it, is at {link.mac}",
        evidence=(
            Evidence(
                f"{entry.address} lladdr {entry.mac} {entry.state.upper()}",
                f"ip neigh show dev {entry.link} in {stack.name}",
            ),
            Evidence(f"{link.name} is {link.mac}", f"ip link show {link.name} in {owner.name}"),
        ),
        remedies=((delete,),),
    )
