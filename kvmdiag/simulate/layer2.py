"""Links and bridges: how a frame gets from one stack to the next.

Sources: net/bridge/br_input.c, br_forward.c, br_netfilter_hooks.c; drivers/net/veth.c.
"""

from __future__ import annotations

from typing import NoReturn

from msgspec.structs import replace

from kvmdiag.model.link import Link, LinkRef
from kvmdiag.model.netfilter import Family, HookName
from kvmdiag.model.packet import Packet
from kvmdiag.model.trace import Outcome, Reason, Stage
from kvmdiag.simulate.context import Context
from kvmdiag.simulate.fib import flow_of
from kvmdiag.simulate.ingress import check_source
from kvmdiag.simulate.journey import Journey
from kvmdiag.simulate.neighbour import Silent, resolve
from kvmdiag.simulate.netfilter import pass_hook
from kvmdiag.simulate.segment import (
    Obstacle,
    are_isolated,
    link_obstacle,
    meets_ip,
    port_obstacle,
    reached_from,
)
from kvmdiag.simulate.steps import Arrive, Ascend, Ended, Frame, Step, Transmit
from kvmdiag.simulate.unread import NotUnderstood
from kvmdiag.simulate.view import parse_address

_VLAN_TAG = 4  # bytes

# br_netfilter takes frames to the IP hooks in the middle of the bridge's own (NF_BR_PRI_BRNF).
_ALL = range(-(2**31), 2**31)
_EARLY = range(-(2**31), 1)
_LATE = range(1, 2**31)
_NONE = range(0)


def transmit(journey: Journey, step: Transmit) -> Step:
    """A link sends a frame: over its cable, into its bridge, or out of our sight."""
    link = journey.view.link(step.stack, step.link)
    packet = step.frame.packet
    obstacle = _egress_obstacle(journey, step.stack, link)
    if obstacle is not None:
        _stop(journey, obstacle, Stage.EGRESS, packet)
    if link.kind == "bridge":
        return _send_by_bridge(journey, step, link)
    if link.is_loopback:
        return Ascend(step.stack, link.name, step.frame)
    step = replace(step, frame=_device_hook(journey, step.stack, "egress", step.frame, link))
    packet = step.frame.packet
    if link.peer is not None:
        to = str(link.peer)
        journey.note(step.stack, link.name, Stage.EGRESS, packet, f"sent to {to}")
        if link.kind == "veth":
            # The far end looks at the size before it takes a frame (____dev_forward_skb).
            far = journey.view.link(link.peer.stack, link.peer.link)
            room = far.mtu + _VLAN_TAG
            _require_room(journey, link.peer.stack, far, room, Stage.INGRESS, packet)
        if link.peer.stack != step.stack:
            packet = replace(packet, mark=0)
        # A cable takes away everything but the frame itself (skb_scrub_packet).
        frame = Frame(packet, step.frame.src_mac, step.frame.dst_mac)
        return Arrive(link.peer.stack, link.peer.link, frame)
    if link.guest is not None:
        decision = f"handed to guest {link.guest}"
        journey.assume(f"{link.guest} accepts the packet: its inside could not be seen")
        journey.note(step.stack, link.name, Stage.EGRESS, packet, decision)
        raise Ended(Outcome.DELIVERED, Reason.ARRIVED)
    if link.is_uplink:
        decision = f"leaves by {link.name} as {packet.src}"
        journey.note(step.stack, link.name, Stage.EGRESS, packet, decision)
        raise Ended(Outcome.LEFT, Reason.LEFT)
    raise NotUnderstood(step.stack, f"links of kind {link.kind} ({link.name}) are not modelled")


def arrive(journey: Journey, step: Arrive) -> Step:
    """A link takes a frame in and gives it to its bridge or to the IP layer."""
    view = journey.stack(step.stack)
    link = view.links[step.link]
    packet = step.frame.packet
    obstacle = None if link.up else link_obstacle(step.stack, link)
    if obstacle is not None:
        _stop(journey, obstacle, Stage.INGRESS, packet)
    master = view.links.get(link.master or "")
    text = "received" if master is None else f"received, port of {master.name}"
    journey.note(step.stack, link.name, Stage.INGRESS, packet, text)
    step = replace(step, frame=_device_hook(journey, step.stack, "ingress", step.frame, link))
    if master is None:
        return Ascend(step.stack, link.name, step.frame)
    if master.kind != "bridge":
        raise NotUnderstood(step.stack, f"links of kind {master.kind} are not modelled")
    return _enter_bridge(journey, step, link, master)


def _egress_obstacle(journey: Journey, stack: str, link: Link) -> Obstacle | None:
    """What keeps a link from sending; of a cut cable the end that is set down is named."""
    if link.kind == "bridge":
        return None if link.up else link_obstacle(stack, link)
    if link.up and link.peer is not None:
        far = journey.view.link(link.peer.stack, link.peer.link)
        if not far.up:
            return link_obstacle(link.peer.stack, far)
    return link_obstacle(stack, link)


def _stop(journey: Journey, obstacle: Obstacle, stage: Stage, packet: Packet) -> NoReturn:
    place = obstacle.place
    raise journey.end(
        Outcome.DROPPED,
        obstacle.reason,
        place.stack,
        place.link,
        stage,
        packet,
        "dropped",
        obstacle.text,
        decider=obstacle.decider,
    )


def _send_by_bridge(journey: Journey, step: Transmit, bridge: Link) -> Step:
    """The host itself sends by its bridge (br_dev_xmit)."""
    packet = step.frame.packet
    journey.note(step.stack, bridge.name, Stage.EGRESS, packet, "sent by the bridge itself")
    port = _egress_port(journey, step.stack, bridge, None, step.frame)
    frame = _bridge_hook(journey, step.stack, "output", step.frame, None, port.name)
    frame = _bridge_hook(journey, step.stack, "postrouting", frame, None, port.name)
    room = port.mtu + _VLAN_TAG
    _require_room(journey, step.stack, port, room, Stage.BRIDGE, frame.packet)
    return Transmit(step.stack, port.name, frame)


def _enter_bridge(journey: Journey, step: Arrive, port: Link, bridge: Link) -> Step:
    """A bridge port takes a frame in (br_handle_frame)."""
    stack, packet = step.stack, step.frame.packet
    obstacle = port_obstacle(stack, port)
    if obstacle is None and not bridge.up:
        obstacle = link_obstacle(stack, bridge)
    if obstacle is not None:
        _stop(journey, obstacle, Stage.BRIDGE, packet)
    shown = calls_netfilter(journey, stack, bridge, packet)
    first, rest = (_EARLY, _LATE) if shown else (_ALL, _NONE)
    frame = _bridge_hook(journey, stack, "prerouting", step.frame, port.name, None, first)
    if shown:
        asked = frame.packet.dst
        at = _context(journey, stack, "prerouting", frame, bridge.name, None, port.name)
        frame = pass_hook(journey, frame, at, Stage.PREROUTING, bridge.name)
        frame = replace(frame, in_port=port.name, prerouted=True)
        if frame.packet.dst != asked:
            frame = _redirected(journey, stack, bridge, frame)
    frame = _bridge_hook(journey, stack, "prerouting", frame, port.name, None, rest)
    if _is_local(journey, stack, bridge, frame.dst_mac):
        _bridge_hook(journey, stack, "input", frame, port.name, None)
        decision = f"for {stack} itself, up from {bridge.name}"
        journey.note(stack, bridge.name, Stage.INGRESS, frame.packet, decision)
        return Ascend(stack, bridge.name, frame)
    return _bridge_on(journey, stack, bridge, port, frame)


def _bridge_on(journey: Journey, stack: str, bridge: Link, port: Link, frame: Frame) -> Step:
    """A frame goes from one port to another (br_forward)."""
    to = _egress_port(journey, stack, bridge, port, frame)
    decision = f"bridged from {port.name} to {to.name}"
    journey.note(stack, bridge.name, Stage.BRIDGE, frame.packet, decision)
    shown = calls_netfilter(journey, stack, bridge, frame.packet)
    first, rest = (_EARLY, _LATE) if shown else (_ALL, _NONE)
    frame = _bridge_hook(journey, stack, "forward", frame, port.name, to.name, first)
    names = (bridge.name, bridge.name, port.name, to.name)
    if shown:
        at = _context(journey, stack, "forward", frame, *names, bridged=True)
        frame = pass_hook(journey, frame, at, Stage.FORWARD, bridge.name)
    frame = _bridge_hook(journey, stack, "forward", frame, port.name, to.name, rest)
    # br_nf_post_routing comes last of all hooks of the bridge (NF_BR_PRI_LAST).
    frame = _bridge_hook(journey, stack, "postrouting", frame, None, to.name)
    if shown:
        at = _context(journey, stack, "postrouting", frame, None, *names[1:], bridged=True)
        frame = pass_hook(journey, frame, at, Stage.POSTROUTING, bridge.name)
    # br_nf_dev_queue_xmit would cut it up, were it allowed to; else is_skb_forwardable decides.
    if not shown:
        _require_room(journey, stack, to, to.mtu + _VLAN_TAG, Stage.BRIDGE, frame.packet)
    elif frame.packet.dont_fragment:
        _require_room(journey, stack, to, to.mtu, Stage.BRIDGE, frame.packet)
    return Transmit(stack, to.name, frame)


def calls_netfilter(journey: Journey, stack: str, bridge: Link, packet: Packet) -> bool:
    """Whether br_netfilter shows this bridge's frames to iptables: sysctl or bridge flag."""
    return meets_ip(journey.stack(stack), bridge, packet.version)


def _is_local(journey: Journey, stack: str, bridge: Link, mac: str | None) -> bool:
    """Whether a frame is for the bridging machine: its bridge's MAC address or a port's."""
    return mac is not None and mac in journey.stack(stack).macs[bridge.name]


def _egress_port(
    journey: Journey, stack: str, bridge: Link, source: Link | None, frame: Frame
) -> Link:
    """The port that leads to the frame's destination.

    That is the port behind which the MAC address is: there the bridge learns it, or gets it to
    by flooding. An entry that somebody made is believed only where nothing is learned that
    would move it (br_fdb_update).
    """
    view = journey.stack(stack)
    mac = frame.dst_mac
    ports = view.ports.get(bridge.name, ())
    port = _port_towards(journey, LinkRef(stack, bridge.name), source, mac)
    entry = view.static_fdb.get((bridge.name, mac or ""))
    if entry is not None and (entry.sticky or port is None or not _learns(port)):
        named = (p for p in ports if p.name == entry.port and _is_way_out(p, source))
        port = next(named, None)
    elif port is not None and not _learns(port) and port.port is not None and not port.port.flood:
        port = None
    if port is not None:
        return _passable(journey, stack, source, port, frame.packet)
    for port in ports if entry is None else ():
        if not _is_way_out(port, source):
            continue
        behind = reached_from(journey.view, stack, port.name, despite_obstacles=True)
        if any(place.opens for place in behind) and _port_blocked(stack, source, port) is None:
            return port
    text = f"no port of {bridge.name} leads to {mac or 'the next hop'}"
    obstacle = Obstacle(Reason.NO_PORT, _ref(stack, bridge), text)
    _stop(journey, obstacle, Stage.BRIDGE, frame.packet)


def _port_towards(
    journey: Journey, bridge: LinkRef, source: Link | None, mac: str | None
) -> Link | None:
    """The port behind which a MAC address is, as far as can be seen."""
    view = journey.view
    asked = (bridge.stack, bridge.link, source.name if source is not None else None, mac)
    if asked in view.ports_towards:
        return view.ports_towards[asked]
    return view.ports_towards.keep(asked, _search_port(journey, bridge, source, mac))


def _search_port(
    journey: Journey, bridge: LinkRef, source: Link | None, mac: str | None
) -> Link | None:
    view = journey.view
    machines = view.whereabouts.with_mac(mac)
    for port in view.whereabouts.ports(bridge.stack, bridge.link, machines):
        if not _is_way_out(port, source):
            continue
        behind = reached_from(
            view, bridge.stack, port.name, despite_obstacles=True, machines=machines
        )
        if any(_mac_is_at(journey, place.stack, place.link, mac) for place in behind):
            return port
    return None


def _is_way_out(port: Link, source: Link | None) -> bool:
    """Whether a frame that came by ``source`` may leave by a port: only a hairpin goes back."""
    if source is None or port.name != source.name:
        return True
    return port.port is not None and port.port.hairpin


def _learns(port: Link) -> bool:
    return port.port is None or port.port.learning


def _passable(
    journey: Journey, stack: str, source: Link | None, port: Link, packet: Packet
) -> Link:
    """The port itself, unless the bridge lets nothing through to it."""
    obstacle = _port_blocked(stack, source, port)
    if obstacle is not None:
        _stop(journey, obstacle, Stage.BRIDGE, packet)
    return port


def _port_blocked(stack: str, source: Link | None, port: Link) -> Obstacle | None:
    if source is not None and are_isolated(source, port):
        text = f"{source.name} and {port.name} are isolated ports"
        return Obstacle(Reason.ISOLATED, _ref(stack, port), text)
    return port_obstacle(stack, port)


def _mac_is_at(journey: Journey, stack: str, link: str, mac: str | None) -> bool:
    found = journey.view.link(stack, link)
    if found.kind == "bridge":
        return _is_local(journey, stack, found, mac)
    return mac is not None and found.mac == mac


def _redirected(journey: Journey, stack: str, bridge: Link, frame: Frame) -> Frame:
    """A translation changed where a bridged frame goes (br_nf_pre_routing_finish).

    It is routed as if it had come up. If it is then to go out by the same bridge it stays on
    layer 2, else it does go up, also where it will only be refused for want of forwarding.
    """
    view = journey.stack(stack)
    packet = frame.packet
    flow = flow_of(packet, bridge.name)
    up = replace(frame, dst_mac=bridge.mac)
    found = view.fib.lookup(flow)
    if found is None or found.refusal is not None:
        return up
    local = found.route.type == "local"
    if not local and not view.conf(bridge.name, "forwarding", packet.version):
        return up
    bad = check_source(view, bridge.name, flow, None if local else found.link)
    if bad is not None:
        place = _ref(stack, bridge)
        _stop(journey, Obstacle(bad.reason, place, bad.because), Stage.BRIDGE, packet)
    if found.link != bridge.name:
        return up
    next_hop = parse_address(found.gateway) if found.gateway else packet.dst
    answer = resolve(journey.view, stack, bridge.name, next_hop, packet.src)
    if isinstance(answer, Silent):
        text = f"{next_hop}, to which it was redirected, does not answer on {bridge.name}"
        obstacle = answer.obstacle or Obstacle(Reason.UNRESOLVED, _ref(stack, bridge), text)
        _stop(journey, obstacle, Stage.BRIDGE, packet)
    return replace(frame, dst_mac=answer.mac)


def _require_room(
    journey: Journey, stack: str, link: Link, room: int, stage: Stage, packet: Packet
) -> None:
    """Links take frames up to their MTU, and some leave room for a VLAN tag beside."""
    if packet.length > room:
        text = f"{packet.length} bytes do not fit the MTU {link.mtu} of {link.name}"
        _stop(journey, Obstacle(Reason.MTU, _ref(stack, link), text), stage, packet)


def _bridge_hook(
    journey: Journey,
    stack: str,
    hook: HookName,
    frame: Frame,
    in_link: str | None,
    out_link: str | None,
    priorities: range = _ALL,
) -> Frame:
    """The bridge family's own chains (ebtables, nft bridge); they see the ports as devices."""
    found = journey.stack(stack).base_chains("bridge", hook)
    chains = tuple(base for base in found if base.chain.priority in priorities)
    if not chains:
        return frame
    at = _context(journey, stack, hook, frame, in_link, out_link, family="bridge")
    return pass_hook(journey, frame, at, Stage.BRIDGE, in_link or out_link, chains=chains)


def _device_hook(journey: Journey, stack: str, hook: HookName, frame: Frame, link: Link) -> Frame:
    """Chains that hang on the link itself, before and after everything else."""
    chains = journey.stack(stack).device_chains(hook, link.name)
    if not chains:
        return frame
    into, out = (link.name, None) if hook == "ingress" else (None, link.name)
    at = _context(journey, stack, hook, frame, into, out, family="netdev")
    stage = Stage.INGRESS if hook == "ingress" else Stage.EGRESS
    return pass_hook(journey, frame, at, stage, link.name, chains=chains)


def _context(
    journey: Journey,
    stack: str,
    hook: HookName,
    frame: Frame,
    in_link: str | None,
    out_link: str | None,
    in_port: str | None = None,
    out_port: str | None = None,
    *,
    family: Family | None = None,
    bridged: bool = False,
) -> Context:
    return Context(
        view=journey.stack(stack),
        hook=hook,
        family=family or frame.packet.family,
        packet=frame.packet,
        in_link=in_link,
        out_link=out_link,
        in_port=in_port,
        out_port=out_port,
        bridged=bridged,
        src_mac=frame.src_mac,
        dst_mac=frame.dst_mac,
    )


def _ref(stack: str, link: Link) -> LinkRef:
    return LinkRef(stack, link.name)
