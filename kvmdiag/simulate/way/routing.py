"""What a packet's own route decides, wherever the packet came from: refusal, POSTROUTING, next hop.

Sources: net/ipv4/route.c (ip_error), ip_output.c (ip_output, ip_finish_output2).
"""

from __future__ import annotations

from msgspec.structs import replace

from kvmdiag.model.packet import Packet
from kvmdiag.model.trace import Outcome, Reason, Stage
from kvmdiag.simulate.facts.addresses import parse_address
from kvmdiag.simulate.facts.fib import Found
from kvmdiag.simulate.facts.stack_view import StackView
from kvmdiag.simulate.way.any_of import one_of
from kvmdiag.simulate.way.journey import Journey
from kvmdiag.simulate.way.netfilter import hook_context, pass_hook
from kvmdiag.simulate.way.next_hop import mac_of_next_hop
from kvmdiag.simulate.way.steps import Ended, Frame, Step, Transmit
from kvmdiag.simulate.way.stop import refuse_length

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
        journey.note(view.name, link, stage, packet, f"no route to {packet.dst}")
        raise Ended(Outcome.NO_ROUTE, Reason.NO_ROUTE)
    if found.refusal is not None:
        outcome, because = _REFUSED.get(
            found.refusal, (Outcome.NO_ROUTE, f"the route says {found.refusal}")
        )
        journey.note(view.name, link, stage, packet, because, found.ref.text, decider=found.ref)
        raise Ended(outcome, Reason.NO_ROUTE)
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
    mtu = mtu_of(view, link, found)
    packet = in_pieces(frame.packet, mtu)
    if packet.length > mtu:
        # Of one's own, sent elsewhere by a translation: it was found to fit another way.
        decision = "rejected with icmp fragmentation-needed"
        refuse_length(journey, view.name, link, mtu, Stage.POSTROUTING, packet, decision)
    frame = Frame(packet, device.mac, tracked=frame.tracked, own=frame.own)
    if not device.is_loopback:
        mac = mac_of_next_hop(journey, view, link, next_hop, frame.packet)
        frame = replace(frame, dst_mac=mac)
    return Transmit(view.name, link, frame)


def mtu_of(view: StackView, link: str, found: Found) -> int:
    """The length of the longest packet that goes by a route: its own MTU, or its link's."""
    return found.route.mtu or view.links[link].mtu


def in_pieces(packet: Packet, mtu: int) -> Packet:
    """The largest piece of a packet that is cut up on its way out (ip_fragment)."""
    if packet.length <= mtu or packet.dont_fragment or packet.version == 6:
        return packet
    return replace(packet, length=mtu)
