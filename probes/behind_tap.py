"""What a frame must bear to look as if a guest had sent it, and how much of that is assumed."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

import msgspec

from kvmdiag.errors import KvmdiagError, NotReadableError
from kvmdiag.model.link import Link
from kvmdiag.model.packet import IPAddress
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Walk
from kvmdiag.simulate.facts.addresses import parse_address
from kvmdiag.simulate.facts.fib import Flow
from kvmdiag.simulate.facts.stack_view import StackView


class BehindTap(msgspec.Struct, frozen=True, kw_only=True):
    """The guest as its tap shows it.

    ``guest`` is what the user calls it, ``guest_stack`` its stack if there is one. ``stack``
    and ``link`` are the tap, with the namespace it is in; ``mac`` and ``source`` are the
    guest's own; ``next_hop`` is where it would send the packet first, ``next_mac`` that one's
    MAC address where it need not be asked for. ``assumed`` are sentences.
    """

    guest: str
    guest_stack: str | None
    stack: Stack
    link: Link
    mac: str
    source: IPAddress
    destination: IPAddress
    next_hop: IPAddress
    next_mac: str | None = None
    assumed: tuple[str, ...] = ()


def behind_tap(snapshot: Snapshot, walk: Walk) -> BehindTap:
    """Put together what is known of the walk's source.

    Raises:
        NotReadableError: its tap, its MAC address or its IP address is not known.

    """
    question = walk.question
    destination = parse_address(question.destination.address or "::")
    guest = next((s for s in snapshot.stacks if s.name == question.source.stack), None)
    stack, tap = _tap(snapshot, walk)
    assumed: list[str] = []
    mac = mac_behind(snapshot, stack, tap, assumed)
    source = _source(stack, walk, mac, destination.version, assumed)
    next_hop = _next_hop(guest, stack, tap, source, destination, assumed)
    return BehindTap(
        guest=question.source.text,
        guest_stack=question.source.stack,
        stack=stack,
        link=tap,
        mac=mac,
        source=source,
        destination=destination,
        next_hop=next_hop,
        assumed=(*question.source.assumed, *assumed),
    )


def _tap(snapshot: Snapshot, walk: Walk) -> tuple[Stack, Link]:
    """The link by which the source's packets come in, of a stack that can be entered."""
    source = walk.question.source
    candidates = list(taps_of(snapshot, source.stack, source.link))
    on_way = {(hop.stack, hop.link) for hop in walk.request.hops}
    candidates.sort(key=lambda found: (found[0].name, found[1].name) not in on_way)
    if candidates:
        return candidates[0]
    raise NotReadableError(
        f"cannot send for {walk.question.source.text}: it cannot be entered, and no tap of it "
        "is known; --no-probe predicts the way without sending"
    )


def taps_of(
    snapshot: Snapshot, guest: str | None, wanted: str | None
) -> Iterator[tuple[Stack, Link]]:
    """The links by which a guest's packets come in, of its NIC ``wanted`` where one is named."""
    for stack in snapshot.stacks:
        if stack.netns is None or guest is None:
            continue
        for link in stack.links or ():
            behind = link.guest if link.peer is None else link.peer.stack
            nic = None if link.peer is None else link.peer.link
            tied = (stack.name, link.name) == (guest, wanted)
            if tied or (behind == guest and (wanted is None or nic in (None, wanted))):
                yield stack, link


def mac_behind(snapshot: Snapshot, stack: Stack, tap: Link, assumed: list[str]) -> str:
    """The MAC address of the NIC behind a tap; how it is known goes to ``assumed`` if need be.

    Raises:
        NotReadableError: it is not known.

    """
    if tap.peer is not None:
        far = next((s for s in snapshot.stacks if s.name == tap.peer.stack), None)
        for link in (far.links or ()) if far is not None else ():
            if link.name == tap.peer.link and link.mac:
                return link.mac
    for domain in snapshot.domains or ():
        for card in domain.nics:
            if card.target == tap.name and card.mac:
                return card.mac
    learnt = [e.mac for e in stack.fdb or () if e.port == tap.name and not e.local]
    if len(set(learnt)) == 1:
        assumed.append(f"the guest's MAC address is {learnt[0]}, the one learnt at {tap.name}")
        return learnt[0]
    raise NotReadableError(f"cannot send for the guest behind {tap.name}: its MAC is not known")


def _source(stack: Stack, walk: Walk, mac: str, version: int, assumed: list[str]) -> IPAddress:
    if walk.question.source.address is not None:
        return parse_address(walk.question.source.address)
    first = walk.request.hops[0].packet.src
    if not first.is_unspecified and first.version == version:
        return first
    for entry in stack.neighbours or ():
        address = parse_address(entry.address)
        if entry.mac == mac and address.version == version and not address.is_link_local:
            assumed.append(f"the guest's address is {address}, as {stack.name} knows its neighbour")
            return address
    raise NotReadableError(
        f"cannot send for {walk.question.source.text}: its IPv{version} address is not known; "
        "name the address instead of the guest"
    )


def _next_hop(
    guest: Stack | None,
    stack: Stack,
    tap: Link,
    source: IPAddress,
    destination: IPAddress,
    assumed: list[str],
) -> IPAddress:
    """By the guest's own routes where they are known, else by the bridge the tap is a port of."""
    if guest is not None and guest.routes is not None and guest.policy_rules is not None:
        try:
            found = StackView(guest).fib.lookup(Flow(dst=destination, src=source))
        except KvmdiagError:
            found = None
        if found is not None and found.refusal is None:
            return parse_address(found.gateway) if found.gateway else destination
    for entry in stack.addresses or ():
        network = ip_network(entry.network, strict=False)
        if entry.link in (tap.master, tap.name) and source in network:
            if destination in network:
                return destination
            assumed.append(f"the guest's gateway is {entry.address} of {stack.name}/{entry.link}")
            return parse_address(entry.address)
    assumed.append(f"{destination} is in the guest's own network")
    return destination
