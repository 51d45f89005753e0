"""A machine takes its network to be larger or smaller than its neighbours do.

Symptom: it reaches its gateway and part of the others; addresses of another subnet are sought by
    ARP on the link, or neighbours by way of the gateway or not at all.
Cause: a wrong prefix length, often /32 or /16 where everybody else has /24; or an address of
    another network on the link, which leads all of that network there.
Harmless when: the machine is meant to see only its router (/32 and a route to the gateway), or no
    address of the difference is in use.
Evidence: an address whose network is not that of the others on the segment, or in which nobody
    else there is, and the path that works with theirs.
Fix: ip addr add ADDRESS/RIGHT dev IF; ip addr del ADDRESS/WRONG dev IF.
Sources: net/ipv4/fib_frontend.c (fib_add_ifaddr, fib_del_ifaddr), ip-address(8)
"""

from collections import Counter
from collections.abc import Iterator

from kvmdiag.actions.address import AddAddress, DeleteAddress
from kvmdiag.diagnose.case import Case, Interface, address_fact, addresses_of, place
from kvmdiag.diagnose.check import Facts, Suspicion, check
from kvmdiag.diagnose.nets import IPNetwork
from kvmdiag.diagnose.sought import sought_in_vain
from kvmdiag.model.link import Link
from kvmdiag.model.report import Evidence, Severity
from kvmdiag.model.stack import Stack


@check(severity=Severity.ERROR, needs={Facts.LINKS, Facts.ADDRESSES, Facts.ROUTES})
def wrong_netmask(case: Case) -> Iterator[Suspicion]:
    """Each address on the way that is unlike its neighbours; the remedy tells if it matters."""
    passed = {hop.stack for hop in case.walk.hops}
    for stack in case.stacks:
        for link in stack.links or () if stack.name in passed else ():
            neighbours = tuple(_neighbours(case, stack, link))
            for mine in addresses_of(stack, link.name) if neighbours else ():
                theirs = _usual_around(mine, neighbours)
                if theirs is not None and mine.version == 4:
                    yield _unlike(stack, link, mine, theirs)
    yield from _of_another_network(case)


def _neighbours(case: Case, stack: Stack, link: Link) -> Iterator[Interface]:
    """The addresses of everybody on a link's segment, its own among them."""
    homes = ((stack, link),) if link.kind == "bridge" else case.segments(link)
    for segment in homes:
        for _, address in case.neighbours_on(*segment):
            yield address


def _usual_around(mine: Interface, neighbours: tuple[Interface, ...]) -> IPNetwork | None:
    """The network that others there take an address to be in, unless it is its own already."""
    votes = Counter(
        address.network
        for address in neighbours
        if mine.ip in address.network and address.network.prefixlen < mine.max_prefixlen
    )
    usual, count = votes.most_common(1)[0] if votes else (mine.network, 0)
    return usual if usual != mine.network and count >= votes[mine.network] else None


def _unlike(stack: Stack, link: Link, mine: Interface, theirs: IPNetwork) -> Suspicion:
    right = f"{mine.ip}/{theirs.prefixlen}"
    return Suspicion(
        subject=place(stack, link.name),
        summary=f"{stack.name} takes {mine.network} to be its network on {link.name}; the others "
        f"there are in {theirs}",
        evidence=(
            address_fact(stack, link.name),
            Evidence(f"its neighbours are in {theirs}", "ip addr show of the machines there"),
        ),
        remedies=(
            (
                AddAddress(stack=stack.name, link=link.name, address=right),
                DeleteAddress(stack=stack.name, link=link.name, address=str(mine)),
            ),
        ),
    )


def _of_another_network(case: Case) -> Iterator[Suspicion]:
    """What was sought in vain is in a network of the link's in which nobody else there is."""
    found, target = sought_in_vain(case), case.end.packet.dst
    if found is None or found.route.protocol != "kernel" or found.address != str(target):
        return
    stack, link = found.stack, found.link
    mine = addresses_of(stack, link.name)
    there = [a.ip for machine, own in found.around for a in addresses_of(machine, own.name)]
    for address in mine:
        network = address.network
        if target not in network or any(ip in network for ip in there) or len(mine) < 2:
            continue
        yield Suspicion(
            subject=place(stack, link.name),
            summary=f"{stack.name} takes {network} to be on {link.name}, where nobody else is "
            "in it",
            evidence=(address_fact(stack, link.name), found.known),
            remedies=((DeleteAddress(stack=stack.name, link=link.name, address=str(address)),),),
        )
