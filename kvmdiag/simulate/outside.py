"""What lies beyond the uplinks: not in the snapshot, and only ever assumed."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_network

from kvmdiag.model.link import Link
from kvmdiag.model.packet import IPAddress, Packet
from kvmdiag.model.trace import Stage, Trace
from kvmdiag.simulate.fib import Flow
from kvmdiag.simulate.steps import Arrive, Frame
from kvmdiag.simulate.unread import NotUnderstood
from kvmdiag.simulate.view import StackView, View

NAME = "outside"


def doubt_of_return(view: View, request: Trace) -> str | None:
    """Why the outside may not know the way back to a packet that left; ``None``: it does.

    It knows the addresses of the machine that sent the packet out, and those that lie in
    the network of the uplink itself.
    """
    source, target = request.end.packet.src, request.end.packet.dst
    owner = next((s.name for s in view.stacks.values() if target in _seen_addresses(s)), None)
    if owner is not None:
        return f"{target} is an address of {owner} here, and nothing shows that it comes back in"
    stack = view.stacks[request.end.stack]
    if source in stack.local_addresses:
        return None
    link = _ip_link(stack, stack.links[request.end.link or ""])
    routed = _was_routed(request)
    for entry in stack.addresses_of(link, source.version):
        if source in ip_network(entry.network, strict=False):
            if not routed or stack.conf_any(link, "proxy_arp"):
                return None
            return f"{source} is in the uplink's own network, but nobody answers ARP for it"
    if not routed:
        return None
    return f"{source} is not an address of {stack.name}, and no rule translated it"


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


def come_back(view: View, request: Trace, answer: Packet) -> Arrive:
    """The answer comes in by the uplink, for the MAC address that sent the request out."""
    stack = view.stacks[request.end.stack]
    link = stack.links[request.end.link or ""]
    mac = stack.links[_ip_link(stack, link)].mac
    if not _was_routed(request) and request.hops[0].stack != stack.name:
        mac = _mac_of_sender(view, request.end.packet.src) or mac
    return Arrive(stack.name, link.name, Frame(answer, None, mac))


def enter(view: View, packet: Packet) -> Arrive:
    """A packet from the outside comes in by the uplink that leads to its source.

    Raises:
        NotUnderstood: no uplink leads there.
    """
    host = view.stacks[view.snapshot.host]
    found = host.fib.lookup(Flow(dst=packet.src))
    device = host.links.get(found.link or "") if found is not None else None
    if device is None:
        raise NotUnderstood(host.name, f"no uplink of {host.name} leads to {packet.src}")
    uplink = next((link for link in _behind(host, device) if link.is_uplink), None)
    if uplink is None:
        raise NotUnderstood(host.name, f"{device.name} is no uplink, yet leads to {packet.src}")
    return Arrive(host.name, uplink.name, Frame(packet, None, device.mac))


def _behind(stack: StackView, link: Link) -> tuple[Link, ...]:
    return stack.ports.get(link.name, ()) if link.kind == "bridge" else (link,)


def _ip_link(stack: StackView, link: Link) -> str:
    """The link that has the IP addresses: a port's bridge, else the link itself."""
    return link.master if link.master in stack.links and link.master else link.name


def _mac_of_sender(view: View, address: IPAddress) -> str | None:
    for stack in view.stacks.values():
        link = stack.local_addresses.get(address)
        if link is not None:
            return stack.links[link].mac
    return None


def _seen_addresses(stack: StackView) -> Collection[IPAddress]:
    return () if stack.stack.addresses is None else stack.local_addresses
