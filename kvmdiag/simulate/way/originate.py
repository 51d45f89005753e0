"""A stack sends a packet of its own: the route, the source address, OUTPUT.

Sources: net/ipv4/route.c (ip_route_output_key_hash_rcu), ip_output.c (__ip_local_out).
"""

from __future__ import annotations

from msgspec.structs import replace

from kvmdiag.model.packet import IPAddress, Packet
from kvmdiag.model.stack import NextHop, Route
from kvmdiag.model.trace import Outcome, Reason, RouteRef, Stage
from kvmdiag.simulate.facts.addresses import parse_address
from kvmdiag.simulate.facts.fib import Flow, Found
from kvmdiag.simulate.facts.source import select_address
from kvmdiag.simulate.facts.stack_view import StackView
from kvmdiag.simulate.facts.unread import NotUnderstood
from kvmdiag.simulate.way.journey import Journey
from kvmdiag.simulate.way.netfilter import hook_context, pass_hook
from kvmdiag.simulate.way.routing import mtu_of, send, usable_route
from kvmdiag.simulate.way.steps import Ended, Frame, Originate, Step
from kvmdiag.simulate.way.stop import refuse_length


def originate(journey: Journey, step: Originate) -> Step:
    """A stack sends a packet of its own, as ``ping [-I link]`` does."""
    view = journey.stack(step.stack)
    step = _tried_with_source(view, step)
    found = _route_own(journey, view, step)
    link = found.link or "lo"
    packet = step.packet
    if packet.dst.is_multicast or found.route.type in ("broadcast", "multicast"):
        text = f"{packet.dst} is for everybody on {link}; a walk goes to one machine"
        raise NotUnderstood(view.name, text)
    if step.bound_address is None:
        packet = replace(packet, src=_own_source(journey, view, step, found, link))
        if packet.proto in ("tcp", "udp") and packet.version == 4:
            # A socket that connects looks again, with the source it got (ip_route_connect).
            found = _route_own(
                journey, view, replace(step, packet=packet, bound_address=packet.src)
            )
            link = found.link or "lo"
    packet = _fitting(journey, view, packet, link, found)
    journey.note(
        step.stack,
        link,
        Stage.OUTPUT,
        packet,
        f"sent from {packet.src} by {link}",
        found.ref.text,
        decider=found.ref,
        out_link=link,
    )
    frame = Frame(packet, own=True)
    at = hook_context(view, "output", frame, None, link)
    rerouted: list[Originate] = []

    def reroute(changed: Packet) -> bool:
        rerouted.append(Originate(step.stack, changed, step.bound_link, changed.src))
        way = _looked_up(view, rerouted[-1])
        return (
            way is not None and way.refusal is None and not _stays_within(view, rerouted[-1], way)
        )

    frame = pass_hook(journey, frame, at, Stage.OUTPUT, link, reroute=reroute)
    if rerouted:
        found = _route_own(journey, view, rerouted[-1])
        link = found.link or "lo"
    return send(journey, view, frame, link, found)


def _fitting(journey: Journey, view: StackView, packet: Packet, link: str, found: Found) -> Packet:
    """The packet, or the largest piece of it; what may not be cut up is refused (EMSGSIZE).

    Source: __ip_append_data in net/ipv4/ip_output.c, ip_fragment.
    """
    mtu = mtu_of(view, link, found)
    if packet.length > mtu and packet.dont_fragment:
        decision = "refused: message too long"
        refuse_length(journey, view.name, link, mtu, Stage.OUTPUT, packet, decision)
    return replace(packet, length=min(packet.length, mtu))


def _tried_with_source(view: StackView, step: Originate) -> Originate:
    """Where IPv6 finds no route it looks again, with some source (ip6_dst_lookup_tail)."""
    packet = step.packet
    if packet.version == 4 or step.bound_address is not None:
        return step
    found = view.fib.lookup(_own_flow(step))
    if found is not None and found.refusal is None:
        return step
    source = select_address(view, step.bound_link or "", packet.dst)
    if source is None:
        return step
    return replace(step, packet=replace(packet, src=source), bound_address=source)


def _own_flow(step: Originate) -> Flow:
    packet = step.packet
    return Flow(
        dst=packet.dst,
        src=step.bound_address,
        oif=step.bound_link,
        mark=packet.mark,
        proto=packet.proto,
        sport=packet.sport,
        dport=packet.dport,
    )


def _route_own(journey: Journey, view: StackView, step: Originate) -> Found:
    """The route for a packet of the stack's own."""
    found = _looked_up(view, step)
    if found is not None and _stays_within(view, step, found):
        text = f"{step.bound_address} does not leave by {found.link}"
        journey.note(
            view.name,
            found.link,
            Stage.OUTPUT,
            step.packet,
            "refused: invalid argument",
            f"{text}: route_localnet is off",
            decider=found.ref,
            out_link=found.link,
        )
        raise Ended(Outcome.DROPPED, Reason.MARTIAN)
    return usable_route(journey, view, step.bound_link, Stage.OUTPUT, step.packet, found)


def _stays_within(view: StackView, step: Originate, found: Found) -> bool:
    """Whether the source is one of the loopback, and the link another (__mkroute_output)."""
    source, link = step.bound_address, found.link
    if source is None or not source.is_loopback or source.version == 6 or link is None:
        return False
    return not view.links[link].is_loopback and not view.conf_any(link, "route_localnet")


def _looked_up(view: StackView, step: Originate) -> Found | None:
    found = view.fib.lookup(_own_flow(step))
    refused = found is None or found.refusal is not None
    if refused and step.bound_link is not None and step.packet.version == 4:
        # ip_route_output_key_hash_rcu: bound to a link without a route, the destination is
        # taken to be on that link.
        return _on_link(view, step.packet.dst, step.bound_link)
    return found


def _on_link(view: StackView, dst: IPAddress, link: str) -> Found:
    route = Route(destination=f"{dst}/{dst.max_prefixlen}", next_hops=(NextHop(link=link),))
    text = f"{dst} is taken to be on {link} itself, for want of a route"
    return Found(route, route.next_hops[0], RouteRef(stack=view.name, table=0, text=text))


def _own_source(
    journey: Journey, view: StackView, step: Originate, found: Found, link: str
) -> IPAddress:
    """The source address the kernel selects."""
    if found.route.preferred_source is not None:
        return parse_address(found.route.preferred_source)
    if found.route.type == "local":
        return step.packet.dst
    toward = parse_address(found.gateway) if found.gateway else None
    if step.packet.version == 6:
        toward = step.packet.dst  # ipv6_dev_get_saddr is asked about the destination itself
    # fib_result_prefsrc: without a gateway it is the link's first address, near or not.
    address = select_address(view, link, toward, version=step.packet.version)
    if address is None:
        journey.note(
            view.name,
            link,
            Stage.OUTPUT,
            step.packet,
            f"no IPv{step.packet.version} address to send from",
        )
        raise Ended(Outcome.NO_ROUTE, Reason.NO_ADDRESS)
    return address
