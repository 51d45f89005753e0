"""An address that was sought on a link, and nobody answered: by which route, and who is there."""

from __future__ import annotations

from typing import NamedTuple

from kvmdiag.diagnose.absent import Place, absent_addresses, is_bare
from kvmdiag.diagnose.case import Case, address_fact, addresses_of, link_of, owns
from kvmdiag.diagnose.nets import leads_to_guest
from kvmdiag.model.link import Link
from kvmdiag.model.report import Evidence
from kvmdiag.model.stack import Route, Stack
from kvmdiag.model.trace import Hop, Reason, RouteRef
from kvmdiag.simulate.facts.unread import NotRead, NotUnderstood
from kvmdiag.simulate.segment.reach import reached_from


class Sought(NamedTuple):
    """``address`` was asked for on ``link`` of ``stack``, as ``route`` wants it.

    ``around`` are all who heard the question, or would have but for an obstacle; none of them
    has the address.
    """

    stack: Stack
    link: Link
    address: str
    route: Route
    around: tuple[Place, ...]

    @property
    def known(self) -> Evidence:
        """The addresses that there are instead."""
        addresses = ", ".join(
            f"{address_fact(machine, own.name).fact} in {machine.name}"
            for machine, own in self.around
        )
        return Evidence(f"on that network: {addresses}", "ip addr show of every machine there")

    def may_be_back(self, case: Case) -> bool:
        """Whether a machine there is down, or has lost an address that may be this one."""
        return any(
            not link.up
            or (
                is_bare(machine, link)
                and any(
                    absent.address.split("/")[0] == self.address
                    for absent in absent_addresses(case, machine, link)
                )
            )
            for machine, link in self.around
        )


def sought_in_vain(case: Case) -> Sought | None:
    """What nobody has whom the question could reach.

    ``None`` also when not all can be seen, or the cable hangs loose: then that is the matter.
    """
    stack, address = case.here, case.next_hop
    if case.reason is not Reason.UNRESOLVED or stack is None or address is None:
        return None
    link = link_of(stack, case.end.out_link or case.end.link)
    route = route_taken(case, stack, case.end)
    if link is None or route is None:
        return None
    around = machines_around(case, stack, link)
    if around is None or any(owns(machine, address) for machine, _ in around):
        return None
    if all(_is_loose(machine, own) for machine, own in around):
        return None
    return Sought(stack, link, address, route, around)


def _is_loose(stack: Stack, link: Link) -> bool:
    """Whether a link is the end of a guest's cable that is plugged into nothing."""
    return leads_to_guest(link) and link.master is None and not addresses_of(stack, link.name)


def route_taken(case: Case, stack: Stack, before: Hop) -> Route | None:
    """The route by which a stack sent the packet on before a hop."""
    hops = case.trace.hops
    for hop in reversed(hops[: hops.index(before)]):
        if hop.stack == stack.name and isinstance(hop.decider, RouteRef):
            return route_named(stack, hop.decider)
    return None


def route_named(stack: Stack, ref: RouteRef) -> Route | None:
    """The route that a hop names."""
    return next(
        (r for r in stack.routes or () if (r.table, r.text) == (ref.table, ref.text)),
        None,
    )


def machines_around(case: Case, stack: Stack, link: Link) -> tuple[Place, ...] | None:
    """Who else is on a link's network, and by which link; ``None``: not all can be seen.

    Nor is a guest seen whose addresses are assumed: it may have others, as a clone has.
    """
    found = []
    try:
        for place in reached_from(case.view, stack.name, link.name, despite_obstacles=True):
            machine = case.stack(place.stack)
            own = None if machine is None else link_of(machine, place.link)
            if place.opens or machine is None or own is None:
                return None
            if machine.addresses is None or machine.assumed:
                return None
            found.append((machine, own))
    except (NotRead, NotUnderstood):
        return None
    return tuple(found) or None
