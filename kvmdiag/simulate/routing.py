"""What a packet's own route decides, wherever the packet came from: refusal, POSTROUTING, next hop.

Sources: net/ipv4/route.c (ip_error), ip_output.c (ip_output, ip_finish_output2).
"""

from __future__ import annotations

from msgspec.structs import replace

from kvmdiag.model.netfilter import HookName
from kvmdiag.model.packet import Packet
from kvmdiag.model.trace import LinkStateRef, Outcome, Reason, Stage
from kvmdiag.simulate.addresses import parse_address
from kvmdiag.simulate.any_of import one_of
from kvmdiag.simulate.context import Context
from kvmdiag.simulate.fib import Found
from kvmdiag.simulate.journey import Journey
from kvmdiag.simulate.netfilter import pass_hook
from kvmdiag.simulate.next_hop import mac_of_next_hop
from kvmdiag.simulate.stack_view import StackView
from kvmdiag.simulate.steps import Frame, Step, Transmit

_REFUSED = {
    "blackhole": (Outcome.DROPPED, "the route is a blackhole"),
    "unreachable": (Outcome.NO_ROUTE, "the route says unreachable"),
    "prohibit": (Outcome.NO_ROUTE, "the route says prohibited"),
}


def usable_route(
    journey: Journey,
    view: StackView,
    link: str | None,
    stage: Stage,
    packet: Packet,
    found: Found | None,
) -> Found:
    """The route, unless there is none or it says no."""
    if found is None:
        raise journey.end(
            Outcome.NO_ROUTE,
            Reason.NO_ROUTE,
            view.name,
            link,
            stage,
            packet,
            f"no route to {packet.dst}",
        )
    if found.refusal is not None:
        outcome, because = _REFUSED.get(
            found.refusal, (Outcome.NO_ROUTE, f"the route says {found.refusal}")
        )
        raise journey.end(
            outcome,
            Reason.NO_ROUTE,
            view.name,
            link,
            stage,
            packet,
            because,
            found.ref.text,
            decider=found.ref,
        )
    return _one_hop(journey, view, link, stage, packet, found) if found.others else found


def _one_hop(
    journey: Journey,
    view: StackView,
    link: str | None,
    stage: Stage,
    packet: Packet,
    found: Found,
) -> Found:
    """One of several next hops: fib_multipath_hash chooses, and nobody can foretell a hash."""
    hops = (found.hop, *found.others)
    what = f"by which next hop of {found.ref.text} {view.name} sends {packet.dst}"
    ways = [f"is {hop.gateway or packet.dst} on {hop.link}" for hop in hops]
    chosen = one_of(journey, view.name, link, stage, packet, found.ref, what, ways)
    return Found(found.route, hops[chosen], found.ref)


def send(
    journey: Journey,
    view: StackView,
    frame: Frame,
    link: str,
    found: Found,
) -> Step:
    """POSTROUTING, then find the next hop's MAC address and hand the frame to the link."""
    packet = frame.packet
    next_hop = parse_address(found.gateway) if found.gateway else packet.dst
    at = hook_context(view, "postrouting", frame, None, link)
    frame = pass_hook(journey, frame, at, Stage.POSTROUTING, link, next_hop)
    device = view.links[link]
    mtu = found.route.mtu or device.mtu
    packet = in_pieces(frame.packet, mtu)
    if packet.length > mtu:
        # Of one's own, sent elsewhere by a translation: it was found to fit another way.
        raise journey.end(
            Outcome.REJECTED,
            Reason.MTU,
            view.name,
            link,
            Stage.POSTROUTING,
            packet,
            "rejected with icmp fragmentation-needed",
            f"{packet.length} bytes do not fit the MTU {mtu} of {link}",
            decider=LinkStateRef(stack=view.name, link=link, text=f"mtu {mtu}"),
            out_link=link,
        )
    frame = Frame(packet, device.mac, tracked=frame.tracked)
    if not device.is_loopback:
        mac = mac_of_next_hop(journey, view, link, next_hop, frame.packet)
        frame = replace(frame, dst_mac=mac)
    return Transmit(view.name, link, frame)


def in_pieces(packet: Packet, mtu: int) -> Packet:
    """The largest piece of a packet that is cut up on its way out (ip_fragment)."""
    if packet.length <= mtu or packet.dont_fragment or packet.version == 6:
        return packet
    return replace(packet, length=mtu)


def hook_context(
    view: StackView, hook: HookName, frame: Frame, in_link: str | None, out_link: str | None
) -> Context:
    """What the rules of a hook of the IP layer see of a frame."""
    return Context(
        view=view,
        hook=hook,
        family=frame.packet.family,
        packet=frame.packet,
        in_link=in_link,
        out_link=out_link,
        in_port=frame.in_port,
        src_mac=frame.src_mac,
        dst_mac=frame.dst_mac,
    )
