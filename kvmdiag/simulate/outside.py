"""What lies beyond the uplinks: not in the snapshot, and only ever assumed."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from kvmdiag.model.link import Link, LinkRef
from kvmdiag.model.packet import IPAddress, Packet
from kvmdiag.model.trace import Stage, Trace
from kvmdiag.simulate.facts.addresses import parse_network
from kvmdiag.simulate.facts.fib import Flow
from kvmdiag.simulate.facts.stack_view import StackView
from kvmdiag.simulate.facts.unread import NotUnderstood
from kvmdiag.simulate.facts.view import View
from kvmdiag.simulate.segment.answering import would_answer
from kvmdiag.simulate.segment.arp import question
from kvmdiag.simulate.segment.obstacles import Obstacle
from kvmdiag.simulate.segment.reach import reached_from
from kvmdiag.simulate.segment.stacked import bond_ports
from kvmdiag.simulate.segment.vlans import kept_from, tag_of, taken_in
from kvmdiag.simulate.way.steps import Arrive, Frame

_DEEPEST = 8  # links that stand one on the other; the kernel allows no more (MAX_NEST_DEV)


def doubt_of_return(view: View, request: Trace) -> str | None:
    """Why the outside may not know the way back to a packet that left; ``None``: it does.

    It knows the addresses of the machine that sent the packet out, and those that lie in
    the network of the uplink itself; of others it has shown so if it answered before.
    """
    source, target = request.end.packet.src, request.end.packet.dst
    owner = next((s.name for s in view.stacks.values() if target in _seen_addresses(s)), None)
    if owner is not None:
        return f"{target} is an address of {owner} here, and nothing shows that it comes back in"
    stack = view.stacks[request.end.stack]
    if source in stack.local_addresses:
        return None
    routed = _was_routed(request)
    link = _ip_link(stack, request)
    for entry in stack.addresses_of(link, source.version):
        if source in parse_network(entry.network):
            if not routed or stack.conf_any(link, "proxy_arp"):
                return None
            return f"{source} is in the uplink's own network, but nobody answers ARP for it"
    if not routed or _came_back_before(stack, source, target):
        return None
    return f"{source} is not an address of {stack.name}, and no rule translated it"


def _came_back_before(stack: StackView, source: IPAddress, target: IPAddress) -> bool:
    """Whether a tracked connection of the same two, untranslated, has had an answer."""
    ends = str(source), str(target)
    return any(
        "seen-reply" in flow.status
        and (flow.original.source, flow.original.destination) == ends
        and (flow.reply.destination, flow.reply.source) == ends
        for flow in stack.stack.flows or ()
    )


def _was_routed(request: Trace) -> bool:
    """Whether the last stack routed the packet, rather than sending or bridging it."""
    last = request.end.stack
    for hop in reversed(request.hops):
        if hop.stack != last:
            return False
        if hop.stage is Stage.ROUTE:
            return True
        if hop.stage is Stage.BRIDGE:
            return False
    return False


def come_back(view: View, request: Trace, answer: Packet, vlan: int | None = None) -> Arrive:
    """The answer comes in by the uplink, for the MAC address that sent the request out.

    ``vlan`` is the tag with which the request left.
    """
    stack = view.stacks[request.end.stack]
    mac = stack.links[_ip_link(stack, request)].mac
    if not _was_routed(request) and request.hops[0].stack != stack.name:
        mac = _mac_of_sender(view, request.end.packet.src) or mac
    return Arrive(stack.name, request.end.link or "", Frame(answer, None, mac, vlan=vlan))


def enter(view: View, packet: Packet) -> Arrive:
    """A packet from the outside comes in by the uplink that leads to its source.

    To an address in the uplink's own network the outside sends it directly; for any other it
    needs the host as its router.

    Raises:
        NotUnderstood: no uplink leads there, or nobody here answers for the address.
    """
    host = view.stacks[view.snapshot.host]
    found = host.fib.lookup(Flow(dst=packet.src))
    device = host.links.get(found.link or "") if found is not None else None
    if device is None:
        raise NotUnderstood(host.name, f"no uplink of {host.name} leads to {packet.src}")
    below = ((link, vlan) for link, vlan in _below(host, device, None) if link.is_uplink)
    uplink, vlan = next(below, (None, None))
    if uplink is None:
        raise NotUnderstood(host.name, f"{device.name} is no uplink, yet leads to {packet.src}")
    mac, near = device.mac, host.addresses_of(device.name, packet.version)
    if any(packet.dst in parse_network(entry.network) for entry in near):
        mac = _mac_of_neighbour(view, LinkRef(host.name, uplink.name), packet, vlan)
    return Arrive(host.name, uplink.name, Frame(packet, None, mac, vlan=vlan))


def _mac_of_neighbour(view: View, uplink: LinkRef, packet: Packet, vlan: int | None) -> str | None:
    """The MAC address at which the outside finds a packet's destination, in its own network.

    What keeps the question from getting there is left for the packet to meet.

    Raises:
        NotUnderstood: nobody behind the uplink answers for it.
    """
    asked = question(packet.src, packet.dst, None)
    machines = view.whereabouts.answerers(packet.dst)
    found = [
        place
        for place in reached_from(
            view,
            uplink.stack,
            uplink.link,
            vlan=vlan,
            incoming=True,
            arp=asked,
            despite_obstacles=True,
            machines=machines,
        )
        if not place.opens
        and would_answer(view.stacks[place.stack], place.link, packet.dst, packet.src) is True
    ]
    if not found:
        text = f"nobody here answers for {packet.dst}, which is in the network of {uplink.link}"
        raise NotUnderstood(uplink.stack, text)
    place = min(found, key=lambda one: one.obstacle is not None)
    return view.link(place.stack, place.link).mac


def _below(
    stack: StackView, link: Link, vlan: int | None, depth: int = 0
) -> Iterator[tuple[Link, int | None]]:
    """The links by which what is sent on a link may leave the stack, each with the tag then."""
    if depth > _DEEPEST:
        return
    lower = stack.links.get(link.lower or "")
    if link.kind == "bridge":
        vid = taken_in(stack, link, link, vlan)
        for port in stack.ports.get(link.name, ()):
            if not isinstance(vid, Obstacle) and kept_from(stack, link, port, vid) is None:
                yield from _below(stack, port, tag_of(stack, port, vid, vlan), depth + 1)
    elif lower is not None and link.vlan is not None:
        yield from _below(stack, lower, link.vlan.vid, depth + 1)
    elif lower is not None and link.macvlan is not None:
        yield from _below(stack, lower, vlan, depth + 1)
    elif ports := bond_ports(stack, link):
        for port in ports:
            yield from _below(stack, port, vlan, depth + 1)
    else:
        yield link, vlan


def _ip_link(stack: StackView, request: Trace) -> str:
    """The link that has the IP addresses by which a packet left, be it only bridged.

    A stack that routed or sent it did so by that link; else it is the bridge of the last port.
    """
    for hop in reversed(request.hops):
        if hop.stack != stack.name:
            break
        if hop.stage in (Stage.ROUTE, Stage.OUTPUT) and hop.link is not None:
            return hop.link
        if hop.stage is Stage.BRIDGE and hop.link in stack.ports:
            return hop.link
    link = stack.links[request.end.link or ""]
    return link.master if link.master in stack.links and link.master else link.name


def _mac_of_sender(view: View, address: IPAddress) -> str | None:
    for stack in view.stacks.values():
        link = stack.local_addresses.get(address)
        if link is not None:
            return stack.links[link].mac
    return None


def _seen_addresses(stack: StackView) -> Collection[IPAddress]:
    return () if stack.stack.addresses is None else stack.local_addresses
