"""What the IP layer does with a packet that comes in: routing, forwarding, delivery.

Sources: net/ipv4/route.c (ip_route_input_slow, __mkroute_input), ip_input.c, ip_forward.c;
net/ipv6/ip6_output.c (ip6_forward).
"""

from __future__ import annotations

from typing import NoReturn

from msgspec.structs import replace

from kvmdiag.model.packet import Packet
from kvmdiag.model.trace import Decider, LinkStateRef, Outcome, Reason, Stage, SysctlRef
from kvmdiag.simulate.facts.fib import Flow, Found, flow_of
from kvmdiag.simulate.facts.ingress import check_source
from kvmdiag.simulate.facts.stack_view import StackView, conf_name
from kvmdiag.simulate.facts.unread import NotRead, NotUnderstood
from kvmdiag.simulate.way.journey import Journey
from kvmdiag.simulate.way.netfilter import hook_context, pass_hook
from kvmdiag.simulate.way.routing import mtu_of, send, usable_route
from kvmdiag.simulate.way.steps import Ascend, Ended, Frame, Step
from kvmdiag.simulate.way.stop import refuse_length

# What the sender is told (icmp_send, icmpv6_send).
_TOO_OLD = {4: "rejected with icmp time-exceeded", 6: "rejected with icmpv6 time-exceeded"}
_TOO_BIG = {4: "rejected with icmp fragmentation-needed", 6: "rejected with icmpv6 packet-too-big"}
_IGNORING = {8: "net.ipv4.icmp_echo_ignore_all", 128: "net.ipv6.icmp.echo_ignore_all"}


def ascend(journey: Journey, step: Ascend) -> Step:
    """A packet comes up from a link: PREROUTING, then the routing decision."""
    view = journey.stack(step.stack)
    frame = step.frame
    if frame.own:
        frame = replace(frame, own=False)  # ip_rcv_core: skb_orphan
    _accept_frame(journey, step)
    if not frame.prerouted:
        at = hook_context(view, "prerouting", frame, step.link, None)
        frame = pass_hook(journey, frame, at, Stage.PREROUTING, step.link)
    packet = frame.packet
    _refuse_martians(journey, step, packet)
    flow = flow_of(packet, step.link)
    found = view.fib.lookup(flow)
    if view.links[step.link].is_loopback:
        # It keeps the route by which it was sent, and that was one to this machine.
        return _deliver(journey, view, frame, step.link)
    if found is not None and found.route.type in ("local", "broadcast", "anycast"):
        _check_source(journey, step, packet, flow, None)
        if found.route.type == "broadcast":
            _check_broadcast(journey, view, step.link, packet)
        return _deliver(journey, view, frame, step.link)
    _check_forwarding(journey, view, step, packet)
    found = usable_route(journey, view, step.link, Stage.ROUTE, packet, found)
    _check_source(journey, step, packet, flow, found.link)
    return _forward(journey, view, frame, step.link, found)


def _check_broadcast(journey: Journey, view: StackView, link: str, packet: Packet) -> None:
    """A directed broadcast goes no further, and few answer (icmp_rcv, tcp_v4_conn_request)."""
    if view.conf_any(link, "bc_forwarding"):
        text = f"{view.name} forwards broadcasts that come in by {link}: not modelled"
        raise NotUnderstood(view.name, text)
    name = "net.ipv4.icmp_echo_ignore_broadcasts"
    ignored = view.sysctl(name, 1) if packet.proto == "icmp" else packet.proto == "tcp"
    if ignored:
        why = f"{packet.dst} is a broadcast address of {view.name}, and such are not answered"
        decider = view.settings((name,) if packet.proto == "icmp" else (), default=1)
        raise _ignored(journey, view, link, packet, why, decider)


def _ignored(
    journey: Journey,
    view: StackView,
    link: str,
    packet: Packet,
    why: str,
    decider: SysctlRef | None,
) -> Ended:
    at = (view.name, link, Stage.DELIVER, packet)
    journey.note(*at, "ignored", why, decider=decider, in_link=link)
    return Ended(Outcome.DROPPED, Reason.NO_LISTENER)


def _accept_frame(journey: Journey, step: Ascend) -> None:
    """Refuse frames whose MAC address is another machine's (PACKET_OTHERHOST in ip_rcv)."""
    link = journey.view.link(step.stack, step.link)
    mac = step.frame.dst_mac
    if mac is None or link.is_loopback or link.kind == "bridge" or mac == link.mac:
        return
    text = f"the frame is for {mac}, {link.name} is {link.mac}"
    state = LinkStateRef(stack=step.stack, link=step.link, text=text)
    _drop(journey, step, step.frame.packet, Reason.NOT_FOR_US, text, state, stage=Stage.INGRESS)


def _drop(
    journey: Journey,
    step: Ascend,
    packet: Packet,
    reason: Reason,
    because: str,
    decider: Decider | None = None,
    *,
    stage: Stage = Stage.ROUTE,
    out_link: str | None = None,
) -> NoReturn:
    """End the way of what has come in; its sender is not told."""
    journey.note(
        step.stack,
        step.link,
        stage,
        packet,
        "dropped",
        because,
        decider=decider,
        in_link=step.link,
        out_link=out_link,
    )
    raise Ended(Outcome.DROPPED, reason)


def _refuse_martians(journey: Journey, step: Ascend, packet: Packet) -> None:
    """Addresses that never come in from a wire (ip_route_input_slow)."""
    link = journey.view.link(step.stack, step.link)
    if link.is_loopback:
        return
    source, destination = packet.src, packet.dst
    loopback = source.is_loopback or destination.is_loopback
    if loopback and packet.version == 4:
        loopback = not journey.stack(step.stack).conf_any(step.link, "route_localnet")
    nobody = source.is_unspecified or destination.is_unspecified
    if loopback or nobody or source.is_multicast or int(source) == 0xFFFFFFFF:
        text = f"{source} > {destination} cannot come in from {step.link}"
        _drop(journey, step, packet, Reason.MARTIAN, text)


def _check_source(
    journey: Journey, step: Ascend, packet: Packet, flow: Flow, oif: str | None
) -> None:
    view = journey.stack(step.stack)
    bad = check_source(view, step.link, flow, oif)
    if bad is not None:
        decider = view.settings(bad.sysctls)
        _drop(journey, step, packet, bad.reason, bad.because, decider, out_link=bad.expected)


def _check_forwarding(journey: Journey, view: StackView, step: Ascend, packet: Packet) -> None:
    """IPv4 asks the incoming link (IN_DEV_FORWARD), IPv6 the whole stack."""
    version = packet.version
    name = conf_name(step.link if version == 4 else "all", "forwarding", version)
    if view.sysctl(name):
        return
    if view.stack.assumed and name not in (view.stack.sysctls or {}):
        raise NotRead(view.name, "sysctls")
    names = (name, "net.ipv4.ip_forward") if version == 4 else (name,)
    text = f"{view.name} does not forward what comes in by {step.link}"
    _drop(journey, step, packet, Reason.FORWARDING_OFF, text, view.settings(names))


def _forward(journey: Journey, view: StackView, frame: Frame, link: str, found: Found) -> Step:
    """Pass a packet on to the next hop (ip_forward)."""
    out = found.link or "lo"
    packet = frame.packet
    journey.note(
        view.name,
        out,
        Stage.ROUTE,
        packet,
        f"routed from {link} to {out}",
        found.ref.text,
        decider=found.ref,
        in_link=link,
        out_link=out,
    )
    _check_size_and_life(journey, view, out, packet, found)
    packet = replace(packet, ttl=packet.ttl - 1)
    frame = replace(frame, packet=packet)
    at = hook_context(view, "forward", frame, link, out)
    frame = pass_hook(journey, frame, at, Stage.FORWARD, out)
    return send(journey, view, frame, out, found)


def _check_size_and_life(
    journey: Journey, view: StackView, out: str, packet: Packet, found: Found
) -> None:
    """TTL, and the size of packets that must not be cut up."""
    if packet.ttl <= 1:
        journey.note(
            view.name,
            out,
            Stage.FORWARD,
            packet,
            _TOO_OLD[packet.version],
            "its time to live is over",
        )
        raise Ended(Outcome.REJECTED, Reason.TTL)
    mtu = mtu_of(view, out, found)
    if packet.length > mtu and (packet.dont_fragment or packet.version == 6):
        decision = _TOO_BIG[packet.version]
        refuse_length(journey, view.name, out, mtu, Stage.FORWARD, packet, decision)


def _deliver(journey: Journey, view: StackView, frame: Frame, link: str) -> Step:
    """INPUT, and the packet is there."""
    at = hook_context(view, "input", frame, link, None)
    packet = pass_hook(journey, frame, at, Stage.INPUT, link).packet
    requested = journey.direction == "request" and not journey.wrapped
    if packet.proto in ("tcp", "udp") and requested:
        _find_listener(journey, view, packet, link)
    ignoring = _IGNORING.get(packet.icmp_type or 0)
    if ignoring is not None and view.sysctl(ignoring):
        why = f"{view.name} is set to ignore pings"
        raise _ignored(journey, view, link, packet, why, view.settings((ignoring,)))
    journey.note(view.name, link, Stage.DELIVER, packet, f"delivered to {view.name}", in_link=link)
    raise Ended(Outcome.DELIVERED, Reason.ARRIVED)


def _find_listener(journey: Journey, view: StackView, packet: Packet, link: str) -> None:
    """Whether a socket takes it; TCP answers with a reset where none does, UDP with ICMP."""
    sockets = view.stack.sockets
    if sockets is None or not journey.port_named:
        journey.assume(f"something on {view.name} listens on {packet.proto} {packet.dport}")
        return
    # A socket may serve one link only, or be for all ports of a VRF.
    incoming = view.links.get(link)
    by = (link, incoming.master if incoming is not None else None)
    heard = {
        socket.hears(str(packet.dst), *by)
        for socket in sockets
        if socket.protocol == packet.proto and socket.port == packet.dport
    }
    if True in heard:
        return
    if None in heard:
        journey.assume(f"what listens on {packet.proto} {packet.dport} of {view.name} hears it")
        return
    answer = "a reset" if packet.proto == "tcp" else "icmp port-unreachable"
    journey.note(
        view.name,
        link,
        Stage.DELIVER,
        packet,
        f"rejected with {answer}",
        f"nothing on {view.name} listens on {packet.proto} {packet.dport}",
        in_link=link,
    )
    raise Ended(Outcome.REJECTED, Reason.NO_LISTENER)
