"""The paths that are meant to work, as far as the snapshot shows what was intended."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_interface
from itertools import islice, pairwise

from kvmdiag.errors import UsageError
from kvmdiag.model.question import Question
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Address, Stack
from kvmdiag.simulate.endpoints import resolve

# More paths than that say nothing new about a host, and each costs a walk.
_MOST = 1000


def intended_paths(snapshot: Snapshot) -> tuple[Question, ...]:
    """The paths that should work on this host, without repetition.

    Each machine to its gateways; each that has a default route to the host's own gateways,
    which stand for the outside; and the machines on one bridge around in a ring, which
    passes every port both ways without asking for every pair.
    """
    wanted = dict.fromkeys(islice(_named(snapshot), _MOST))
    found = []
    for source, destination in wanted:
        try:
            found.append(resolve(snapshot, source, destination))
        except UsageError:
            # A machine whose addresses were not read cannot be asked about; its gap says so.
            continue
    return tuple(found)


def _named(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    outside = _gateways(snapshot.stack(snapshot.host))
    for stack in snapshot.stacks:
        mine = _gateways(stack)
        for gateway in mine:
            yield stack.name, gateway
        for gateway in outside:
            if any((":" in gateway) == (":" in own) for own in mine):
                yield stack.name, gateway
    for stack in snapshot.stacks:
        yield from _on_bridges(snapshot, stack)


def _gateways(stack: Stack) -> tuple[str, ...]:
    """The next hops of the default routes."""
    return tuple(
        hop.gateway
        for route in stack.routes or ()
        if route.destination in ("0.0.0.0/0", "::/0") and route.type == "unicast"
        for hop in route.next_hops
        if hop.gateway is not None and not hop.gateway.startswith("fe80:")
    )


def _on_bridges(snapshot: Snapshot, stack: Stack) -> Iterator[tuple[str, str]]:
    for bridge in stack.links or ():
        if bridge.kind != "bridge":
            continue
        members = list(_members(snapshot, stack, bridge.name))
        for (one, _), (other, address) in pairwise((*members, *members[:1])):
            if one != other:
                yield one, address.address


def _members(snapshot: Snapshot, stack: Stack, bridge: str) -> Iterator[tuple[str, Address]]:
    """The machines at a bridge's ports that share a network with the first of them."""
    stacks = {other.name: other for other in snapshot.stacks}
    network = None
    for port in stack.links or ():
        if port.master != bridge or port.peer is None or (port.port and port.port.isolated):
            continue
        guest = stacks.get(port.peer.stack)
        for address in (guest.addresses or ()) if guest is not None else ():
            if address.link != port.peer.link or address.scope != "global":
                continue
            mine = ip_interface(address.network).network
            network = network or mine
            if mine == network:
                yield port.peer.stack, address
                break
