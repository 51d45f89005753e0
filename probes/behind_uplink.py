"""What a frame must bear to look as if somebody outside had sent it, in at the uplink.

For questions such as whether a forwarded port is reached from outside. Only on request: what
answers is sent to the real machine there, which never asked.
"""

from __future__ import annotations

from kvmdiag.errors import KvmdiagError, NotReadableError
from kvmdiag.model.link import Link
from kvmdiag.model.packet import IPAddress
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Walk
from kvmdiag.probes.behind_tap import BehindTap
from kvmdiag.simulate.facts.addresses import parse_address
from kvmdiag.simulate.facts.fib import Flow
from kvmdiag.simulate.facts.stack_view import StackView


def behind_uplink(snapshot: Snapshot, walk: Walk) -> BehindTap:
    """Put together what is known of the walk's source, an address beyond an uplink.

    Raises:
        NotReadableError: the uplink, or the MAC address that brings its packets, is not known.

    """
    question = walk.question
    source = parse_address(question.source.address or "")
    destination = parse_address(question.destination.address or "::")
    first = walk.request.hops[0]
    stack = next((one for one in snapshot.stacks if one.name == first.stack), None)
    links = {link.name: link for link in (stack.links if stack is not None else None) or ()}
    uplink = links.get(first.link or "")
    if stack is None or stack.netns is None or uplink is None or not uplink.is_uplink:
        raise NotReadableError(
            f"cannot send for {question.source.text}: by which link its packets come in is not "
            "known; --no-probe predicts the way without sending"
        )
    upper = links.get(uplink.master or "", uplink)
    bearer, mac = _bearer(stack, source, upper)
    asks = bearer == source and _same_network(stack, upper, destination)
    router = _own_address(stack, upper, source.version)
    return BehindTap(
        guest=question.source.text,
        guest_stack=None,
        stack=stack,
        link=uplink,
        mac=mac,
        source=source,
        destination=destination,
        next_hop=destination if asks else router,
        next_mac=None if asks and not _owns(stack, destination) else upper.mac,
        assumed=() if bearer == source else (f"its packets come by way of {bearer}",),
    )


def _bearer(stack: Stack, source: IPAddress, upper: Link) -> tuple[IPAddress, str]:
    """Who brings its packets, itself or a gateway, and that one's MAC address."""
    bearer = source
    try:
        found = StackView(stack).fib.lookup(Flow(dst=source))
    except KvmdiagError:
        found = None
    if found is not None and found.gateway:
        bearer = parse_address(found.gateway)
    for entry in stack.neighbours or ():
        if entry.link == upper.name and entry.mac and parse_address(entry.address) == bearer:
            return bearer, entry.mac
    raise NotReadableError(
        f"cannot send for {source}: {stack.name} does not know the MAC address of {bearer}; "
        f"it does after: ping -c1 {bearer}"
    )


def _same_network(stack: Stack, upper: Link, destination: IPAddress) -> bool:
    """Whether the source asks for the destination itself, not for a router."""
    try:
        found = StackView(stack).fib.lookup(Flow(dst=destination))
    except KvmdiagError:
        return False
    if found is None or found.refusal is not None or found.gateway:
        return False
    return _owns(stack, destination) or found.link == upper.name


def _owns(stack: Stack, address: IPAddress) -> bool:
    return any(parse_address(entry.address) == address for entry in stack.addresses or ())


def _own_address(stack: Stack, upper: Link, version: int) -> IPAddress:
    for entry in stack.addresses or ():
        address = parse_address(entry.address)
        if entry.link == upper.name and address.version == version and not address.is_link_local:
            return address
    raise NotReadableError(f"{stack.name} has no IPv{version} address on {upper.name}")
