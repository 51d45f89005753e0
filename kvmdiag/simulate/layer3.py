"""The IP layer of a stack: its own packets, incoming ones, forwarding and delivery.

Sources: net/ipv4/route.c (ip_route_input_slow, ip_route_output_key_hash_rcu, __mkroute_input),
ip_input.c, ip_forward.c, ip_output.c; net/ipv6/ip6_output.c (ip6_forward).
"""

from __future__ import annotations

from msgspec.structs import replace

from kvmdiag.model.netfilter import HookName
from kvmdiag.model.packet import IPAddress, Packet
from kvmdiag.model.stack import NextHop, Route
from kvmdiag.model.trace import LinkStateRef, Outcome, Reason, RouteRef, Stage, SysctlRef
from kvmdiag.simulate.context import Context
from kvmdiag.simulate.fib import Flow, Found, flow_of
from kvmdiag.simulate.ingress import BadSource, check_source
from kvmdiag.simulate.journey import Journey
from kvmdiag.simulate.netfilter import pass_hook
from kvmdiag.simulate.next_hop import mac_of_next_hop
from kvmdiag.simulate.source import select_address
from kvmdiag.simulate.steps import Ascend, Ended, Frame, Originate, Step, Transmit
from kvmdiag.simulate.unread import NotRead
from kvmdiag.simulate.view import StackView, conf_name, parse_address

_REFUSED = {
    "blackhole": (Outcome.DROPPED, "the route is a blackhole"),
    "unreachable": (Outcome.NO_ROUTE, "the route says unreachable"),
    "prohibit": (Outcome.NO_ROUTE, "the route says prohibited"),
}


def originate(journey: Journey, step: Originate) -> Step:
    """A stack sends a packet of its own, as ``ping [-I link]`` does."""
    view = journey.stack(step.stack)
    found = _route_own(journey, view, step)
    link = found.link or "lo"
    packet = step.packet
    if step.bound_address is None:
        packet = replace(packet, src=_own_source(journey, view, step, found, link))
        if packet.proto in ("tcp", "udp"):
            # A socket that connects looks again, with the source it got (ip_route_connect).
            found = _route_own(
                journey, view, replace(step, packet=packet, bound_address=packet.src)
            )
            link = found.link or "lo"
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
    frame = Frame(packet)
    at = _context(view, "output", frame, None, link)
    frame = pass_hook(journey, frame, at, Stage.OUTPUT, link)
    after = frame.packet
    remarked = after.mark != packet.mark and _marks_reroute(view, packet)
    if after.dst != packet.dst or remarked:
        rerouted = Originate(step.stack, after, step.bound_link, after.src)
        found = _route_own(journey, view, rerouted)
        link = found.link or "lo"
    return _send(journey, view, frame, link, found)


def _marks_reroute(view: StackView, packet: Packet) -> bool:
    """Whether a new mark makes the kernel route again: only where a route chain may set it.

    Sources: nf_route_table_hook4 in net/netfilter/nft_chain_route.c, iptable_mangle.c.
    """
    return any(base.chain.type == "route" for base in view.base_chains(packet.family, "output"))


def ascend(journey: Journey, step: Ascend) -> Step:
    """A packet comes up from a link: PREROUTING, then the routing decision."""
    view = journey.stack(step.stack)
    frame = step.frame
    _accept_frame(journey, step)
    if not frame.prerouted:
        at = _context(view, "prerouting", frame, step.link, None)
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
        return _deliver(journey, view, frame, step.link)
    _check_forwarding(journey, view, step.link, packet)
    found = _usable_route(journey, view, step.link, Stage.ROUTE, packet, found)
    _check_source(journey, step, packet, flow, found.link)
    return _forward(journey, view, frame, step.link, found)


def _route_own(journey: Journey, view: StackView, step: Originate) -> Found:
    """The route for a packet of the stack's own."""
    packet = step.packet
    flow = Flow(
        dst=packet.dst,
        src=step.bound_address,
        oif=step.bound_link,
        mark=packet.mark,
        proto=packet.proto,
        sport=packet.sport,
        dport=packet.dport,
    )
    found = view.fib.lookup(flow)
    refused = found is None or found.refusal is not None
    if refused and step.bound_link is not None and packet.version == 4:
        # ip_route_output_key_hash_rcu: bound to a link without a route, the destination is
        # taken to be on that link.
        return _on_link(view, packet.dst, step.bound_link)
    return _usable_route(journey, view, step.bound_link, Stage.OUTPUT, packet, found)


def _on_link(view: StackView, dst: IPAddress, link: str) -> Found:
    route = Route(destination=f"{dst}/{dst.max_prefixlen}", next_hops=(NextHop(link=link),))
    text = f"{dst} is taken to be on {link} itself, for want of a route"
    return Found(route, route.next_hops[0], RouteRef(stack=view.name, table=0, text=text))


def _usable_route(
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
    if len(found.route.next_hops) > 1:
        # fib_multipath_hash chooses by a hash of the flow that nobody can foretell.
        journey.assume(f"of several ways {view.name} takes the one by {found.link}")
    return found


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
        toward = toward or step.packet.dst
    # fib_result_prefsrc: without a gateway it is the link's first address, near or not.
    address = select_address(view, link, toward, version=step.packet.version)
    if address is None:
        raise journey.end(
            Outcome.NO_ROUTE,
            Reason.NO_ADDRESS,
            view.name,
            link,
            Stage.OUTPUT,
            step.packet,
            f"no IPv{step.packet.version} address to send from",
        )
    return address


def _accept_frame(journey: Journey, step: Ascend) -> None:
    """Refuse frames whose MAC address is another machine's (PACKET_OTHERHOST in ip_rcv)."""
    link = journey.view.link(step.stack, step.link)
    mac = step.frame.dst_mac
    if mac is None or link.is_loopback or link.kind == "bridge" or mac == link.mac:
        return
    text = f"the frame is for {mac}, {link.name} is {link.mac}"
    raise journey.end(
        Outcome.DROPPED,
        Reason.NOT_FOR_US,
        step.stack,
        step.link,
        Stage.INGRESS,
        step.frame.packet,
        "dropped",
        text,
        decider=LinkStateRef(stack=step.stack, link=step.link, text=text),
        in_link=step.link,
    )


def _refuse_martians(journey: Journey, step: Ascend, packet: Packet) -> None:
    """Addresses that never come in from a wire (ip_route_input_slow)."""
    link = journey.view.link(step.stack, step.link)
    if link.is_loopback:
        return
    source, destination = packet.src, packet.dst
    loopback = source.is_loopback or destination.is_loopback
    if loopback and packet.version == 4:
        loopback = not journey.stack(step.stack).conf_any(step.link, "route_localnet")
    if loopback or source.is_multicast or source.is_unspecified or int(source) == 0xFFFFFFFF:
        raise journey.end(
            Outcome.DROPPED,
            Reason.MARTIAN,
            step.stack,
            step.link,
            Stage.ROUTE,
            packet,
            "dropped",
            f"{source} > {destination} cannot come in from {step.link}",
            in_link=step.link,
        )


def _check_source(
    journey: Journey, step: Ascend, packet: Packet, flow: Flow, oif: str | None
) -> None:
    view = journey.stack(step.stack)
    bad: BadSource | None = check_source(view, step.link, flow, oif)
    if bad is None:
        return
    values = tuple((name, str(view.sysctl(name))) for name in bad.sysctls)
    raise journey.end(
        Outcome.DROPPED,
        bad.reason,
        step.stack,
        step.link,
        Stage.ROUTE,
        packet,
        "dropped",
        bad.because,
        decider=SysctlRef(stack=step.stack, values=values) if values else None,
        in_link=step.link,
        out_link=bad.expected,
    )


def _check_forwarding(journey: Journey, view: StackView, link: str, packet: Packet) -> None:
    """IPv4 asks the incoming link (IN_DEV_FORWARD), IPv6 the whole stack."""
    version = packet.version
    name = conf_name(link if version == 4 else "all", "forwarding", version)
    if view.sysctl(name):
        return
    if view.stack.assumed and name not in (view.stack.sysctls or {}):
        raise NotRead(view.name, "sysctls")
    names = (name, "net.ipv4.ip_forward") if version == 4 else (name,)
    raise journey.end(
        Outcome.DROPPED,
        Reason.FORWARDING_OFF,
        view.name,
        link,
        Stage.ROUTE,
        packet,
        "dropped",
        f"{view.name} does not forward what comes in by {link}",
        decider=SysctlRef(stack=view.name, values=tuple((n, str(view.sysctl(n))) for n in names)),
        in_link=link,
    )


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
    at = _context(view, "forward", frame, link, out)
    frame = pass_hook(journey, frame, at, Stage.FORWARD, out)
    return _send(journey, view, frame, out, found)


def _check_size_and_life(
    journey: Journey, view: StackView, out: str, packet: Packet, found: Found
) -> None:
    """TTL, and the size of packets that must not be cut up."""
    if packet.ttl <= 1:
        raise journey.end(
            Outcome.REJECTED,
            Reason.TTL,
            view.name,
            out,
            Stage.FORWARD,
            packet,
            "rejected with icmp time-exceeded",
            "its time to live is over",
        )
    mtu = found.route.mtu or view.links[out].mtu
    if packet.length > mtu and (packet.dont_fragment or packet.version == 6):
        raise journey.end(
            Outcome.REJECTED,
            Reason.MTU,
            view.name,
            out,
            Stage.FORWARD,
            packet,
            "rejected with icmp fragmentation-needed",
            f"{packet.length} bytes do not fit the MTU {mtu} of {out}",
            decider=LinkStateRef(stack=view.name, link=out, text=f"mtu {mtu}"),
        )


def _send(
    journey: Journey,
    view: StackView,
    frame: Frame,
    link: str,
    found: Found,
) -> Step:
    """POSTROUTING, then find the next hop's MAC address and hand the frame to the link."""
    packet = frame.packet
    next_hop = parse_address(found.gateway) if found.gateway else packet.dst
    at = _context(view, "postrouting", frame, None, link)
    frame = pass_hook(journey, frame, at, Stage.POSTROUTING, link, next_hop)
    device = view.links[link]
    frame = Frame(frame.packet, device.mac, tracked=frame.tracked)
    if not device.is_loopback:
        mac = mac_of_next_hop(journey, view, link, next_hop, frame.packet)
        frame = replace(frame, dst_mac=mac)
    return Transmit(view.name, link, frame)


def _deliver(journey: Journey, view: StackView, frame: Frame, link: str) -> Step:
    """INPUT, and the packet is there."""
    at = _context(view, "input", frame, link, None)
    packet = pass_hook(journey, frame, at, Stage.INPUT, link).packet
    if packet.proto in ("tcp", "udp") and journey.direction == "request":
        _find_listener(journey, view, packet, link)
    if packet.icmp_type == 8 and view.sysctl("net.ipv4.icmp_echo_ignore_all"):
        names = (("net.ipv4.icmp_echo_ignore_all", "1"),)
        raise journey.end(
            Outcome.DROPPED,
            Reason.NO_LISTENER,
            view.name,
            link,
            Stage.DELIVER,
            packet,
            "ignored",
            f"{view.name} is set to ignore pings",
            decider=SysctlRef(stack=view.name, values=names),
            in_link=link,
        )
    journey.note(view.name, link, Stage.DELIVER, packet, f"delivered to {view.name}", in_link=link)
    raise Ended(Outcome.DELIVERED, Reason.ARRIVED)


def _find_listener(journey: Journey, view: StackView, packet: Packet, link: str) -> None:
    """Whether a socket takes it; TCP answers with a reset where none does, UDP with ICMP."""
    sockets = view.stack.sockets
    if sockets is None or not journey.port_named:
        journey.assume(f"something on {view.name} listens on {packet.proto} {packet.dport}")
        return
    wanted = {str(packet.dst), "::", *(("0.0.0.0",) if packet.version == 4 else ())}  # noqa: S104
    if any(
        socket.protocol == packet.proto and socket.port == packet.dport and socket.address in wanted
        for socket in sockets
    ):
        return
    answer = "a reset" if packet.proto == "tcp" else "icmp port-unreachable"
    raise journey.end(
        Outcome.REJECTED,
        Reason.NO_LISTENER,
        view.name,
        link,
        Stage.DELIVER,
        packet,
        f"rejected with {answer}",
        f"nothing on {view.name} listens on {packet.proto} {packet.dport}",
        in_link=link,
    )


def _context(
    view: StackView, hook: HookName, frame: Frame, in_link: str | None, out_link: str | None
) -> Context:
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
