"""Who asks for its next hop, and by which link."""

from __future__ import annotations

from ipaddress import ip_network

import msgspec

from kvmdiag.errors import KvmdiagError, UsageError
from kvmdiag.model.link import Link, LinkRef
from kvmdiag.model.packet import IPAddress
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Walk
from kvmdiag.probes.behind_tap import behind_tap
from kvmdiag.probes.frame_port import FramePort, Port
from kvmdiag.probes.tap import injector
from kvmdiag.simulate.facts.addresses import parse_address
from kvmdiag.simulate.facts.fib import Flow
from kvmdiag.simulate.facts.stack_view import StackView


class Asker(msgspec.Struct, frozen=True, kw_only=True):
    """``place`` is where answers arrive; they go out there when it is a tap."""

    name: str
    stack: Stack
    link: Link
    mac: str
    source: IPAddress
    wanted: IPAddress
    on_tap: bool
    remarks: tuple[str, ...]

    @property
    def place(self) -> LinkRef:
        """The stack and link."""
        return LinkRef(self.stack.name, self.link.name)


def asker_of(snapshot: Snapshot, way: Walk, on_tap: bool) -> Asker:
    """The walk's source, which asks for its next hop.

    Raises:
        NotReadableError: its tap, its MAC address or its IP address is not known.
        UsageError: it has no route there, or no link to ask by.

    """
    name = way.question.source.stack
    stack = next((one for one in snapshot.stacks if one.name == name), None)
    if stack is not None and stack.netns is not None and not on_tap:
        return _inside(stack, way)
    behind = behind_tap(snapshot, way)
    return Asker(
        name=behind.guest,
        stack=behind.stack,
        link=behind.link,
        mac=behind.mac,
        source=behind.source,
        wanted=behind.next_hop,
        on_tap=True,
        remarks=(
            f"sent into {behind.stack.name}/{behind.link.name}, as if {behind.guest} had sent it, "
            f"from {behind.mac}",
            *behind.assumed,
        ),
    )


def port_of(asker: Asker) -> Port:
    """What its frames are put on."""
    if asker.on_tap:
        return injector(asker.stack, asker.link)
    return FramePort(asker.stack, asker.link)


def _inside(stack: Stack, way: Walk) -> Asker:
    asked = way.question
    destination = parse_address(asked.destination.address or "::")
    source = None if asked.source.address is None else parse_address(asked.source.address)
    flow = Flow(dst=destination, src=source, oif=asked.source.link)
    try:
        found = StackView(stack).fib.lookup(flow)
    except KvmdiagError as error:
        raise UsageError(f"the next hop of {stack.name} is not known: {error}") from None
    if found is None or found.refusal is not None:
        raise UsageError(f"{stack.name} has no route to {destination}: it asks for nobody")
    link = next((one for one in stack.links or () if one.name == found.link), None)
    if link is None or link.mac is None or link.type != "ether":
        raise UsageError(f"{stack.name} needs no ARP to get to {destination}")
    wanted = parse_address(found.gateway) if found.gateway else destination
    preferred = found.route.preferred_source
    return Asker(
        name=asked.source.text,
        stack=stack,
        link=link,
        mac=link.mac,
        source=source or (parse_address(preferred) if preferred else _own(stack, link, wanted)),
        wanted=wanted,
        on_tap=False,
        remarks=(),
    )


def _own(stack: Stack, link: Link, wanted: IPAddress) -> IPAddress:
    """The address it asks from: one in the same network, else any of that link."""
    mine = [
        entry
        for entry in stack.addresses or ()
        if entry.link == link.name and parse_address(entry.address).version == wanted.version
    ]
    mine.sort(key=lambda entry: wanted not in ip_network(entry.network, strict=False))
    if not mine:
        raise UsageError(f"{stack.name} has no IPv{wanted.version} address on {link.name}")
    return parse_address(mine[0].address)
