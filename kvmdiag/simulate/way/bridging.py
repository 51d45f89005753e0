"""What a bridge does with a frame, and where br_netfilter shows it to the hooks of IP.

Sources: net/bridge/br_input.c, br_forward.c, br_device.c, br_netfilter_hooks.c.
"""

from __future__ import annotations

from functools import partial

from msgspec.structs import replace

from kvmdiag.model.link import Link, LinkRef
from kvmdiag.model.trace import Reason, Stage
from kvmdiag.simulate.facts.addresses import parse_address
from kvmdiag.simulate.facts.fib import flow_of
from kvmdiag.simulate.facts.ingress import check_source
from kvmdiag.simulate.facts.stack_view import StackView
from kvmdiag.simulate.segment.neighbour import Silent, resolve
from kvmdiag.simulate.segment.obstacles import Obstacle, admin_obstacle, port_obstacle
from kvmdiag.simulate.segment.reach import meets_ip
from kvmdiag.simulate.segment.vlans import kept_from, tag_of, taken_in
from kvmdiag.simulate.way.device_hooks import bridge_hook
from kvmdiag.simulate.way.forwarding import egress_port
from kvmdiag.simulate.way.journey import Journey
from kvmdiag.simulate.way.netfilter import hook_context, pass_hook
from kvmdiag.simulate.way.next_hop import first_to_answer
from kvmdiag.simulate.way.routing import in_pieces
from kvmdiag.simulate.way.steps import Arrive, Frame, Transmit
from kvmdiag.simulate.way.stop import require_room, stop

VLAN_TAG = 4
"""Bytes that is_skb_forwardable leaves beyond the MTU (VLAN_HLEN), tag or no tag."""

# br_netfilter takes frames to the IP hooks in the middle of the bridge's own (NF_BR_PRI_BRNF).
_ALL = range(-(2**31), 2**31)
_EARLY = range(-(2**31), 1)
_LATE = range(1, 2**31)
_NONE = range(0)


def send_by_bridge(journey: Journey, step: Transmit, bridge: Link) -> Transmit:
    """The host itself sends by its bridge (br_dev_xmit)."""
    stack, frame = step.stack, step.frame
    view = journey.stack(stack)
    journey.note(stack, bridge.name, Stage.EGRESS, frame.packet, "sent by the bridge itself")
    vid = _vlan_of(journey, view, bridge, bridge, frame)
    port = egress_port(journey, stack, bridge, None, frame, vid)
    frame = bridge_hook(journey, stack, "output", frame, None, port.name, _ALL)
    frame = bridge_hook(journey, stack, "postrouting", frame, None, port.name, _ALL)
    require_room(journey, stack, port, port.mtu + VLAN_TAG, Stage.BRIDGE, frame.packet)
    return Transmit(stack, port.name, replace(frame, vlan=tag_of(view, port, vid, frame.vlan)))


def enter_bridge(journey: Journey, step: Arrive, port: Link, bridge: Link) -> Transmit | Frame:
    """A bridge port takes a frame in (br_handle_frame): it goes on, or up as what is returned."""
    stack, packet = step.stack, step.frame.packet
    view = journey.stack(stack)
    obstacle = port_obstacle(stack, port) or admin_obstacle(stack, bridge)
    obstacle = obstacle or _locked_out(view, bridge, port, step.frame)
    if obstacle is not None:
        stop(journey, obstacle, Stage.BRIDGE, packet)
    shown = calls_netfilter(view, bridge, step.frame)
    first, rest = (_EARLY, _LATE) if shown else (_ALL, _NONE)
    frame = bridge_hook(journey, stack, "prerouting", step.frame, port.name, None, first)
    if shown:
        asked = frame.packet.dst
        frame = replace(frame, in_port=port.name, prerouted=True)
        at = hook_context(view, "prerouting", frame, bridge.name, None)
        frame = pass_hook(journey, frame, at, Stage.PREROUTING, bridge.name)
        if frame.packet.dst != asked:
            frame = _redirected(journey, view, bridge, frame)
    frame = bridge_hook(journey, stack, "prerouting", frame, port.name, None, rest)
    vid = _vlan_of(journey, view, bridge, port, frame)
    if frame.dst_mac is None or frame.dst_mac not in view.macs[bridge.name]:
        return _bridge_on(journey, view, bridge, port, frame, vid)
    bridge_hook(journey, stack, "input", frame, port.name, None, _ALL)
    kept = kept_from(view, bridge, bridge, vid)
    if kept is not None:
        stop(journey, kept, Stage.BRIDGE, frame.packet)
    decision = f"for {stack} itself, up from {bridge.name}"
    journey.note(stack, bridge.name, Stage.INGRESS, frame.packet, decision)
    return replace(frame, vlan=tag_of(view, bridge, vid, frame.vlan))


def _bridge_on(
    journey: Journey, view: StackView, bridge: Link, port: Link, frame: Frame, vid: int | None
) -> Transmit:
    """A frame goes from one port to another (br_forward)."""
    stack = view.name
    to = egress_port(journey, stack, bridge, port, frame, vid)
    within = "" if vid is None else f" in VLAN {vid}"
    decision = f"bridged from {port.name} to {to.name}{within}"
    journey.note(stack, bridge.name, Stage.BRIDGE, frame.packet, decision)
    shown = calls_netfilter(view, bridge, frame)
    first, rest = (_EARLY, _LATE) if shown else (_ALL, _NONE)
    frame = bridge_hook(journey, stack, "forward", frame, port.name, to.name, first)
    bridged = partial(hook_context, view, out_port=to.name, bridged=True)
    if shown:
        at = bridged("forward", frame, bridge.name, bridge.name)
        frame = pass_hook(journey, frame, at, Stage.FORWARD, bridge.name)
    frame = bridge_hook(journey, stack, "forward", frame, port.name, to.name, rest)
    # br_nf_post_routing comes last of all hooks of the bridge (NF_BR_PRI_LAST).
    frame = bridge_hook(journey, stack, "postrouting", frame, None, to.name, _ALL)
    if shown:
        at = bridged("postrouting", frame, None, bridge.name)
        frame = pass_hook(journey, frame, at, Stage.POSTROUTING, bridge.name)
    # br_nf_dev_queue_xmit would cut it up, were it allowed to; else is_skb_forwardable decides.
    if not shown:
        require_room(journey, stack, to, to.mtu + VLAN_TAG, Stage.BRIDGE, frame.packet)
    elif frame.packet.dont_fragment or frame.packet.version == 6:
        require_room(journey, stack, to, to.mtu, Stage.BRIDGE, frame.packet)
    else:
        frame = replace(frame, packet=in_pieces(frame.packet, to.mtu))
    return Transmit(stack, to.name, replace(frame, vlan=tag_of(view, to, vid, frame.vlan)))


def calls_netfilter(view: StackView, bridge: Link, frame: Frame) -> bool:
    """Whether br_netfilter shows a frame to the hooks of IP.

    Tagged ones are shown only where that is asked for (IS_VLAN_IP).
    """
    if frame.vlan and not view.sysctl("net.bridge.bridge-nf-filter-vlan-tagged"):
        return False
    return meets_ip(view, bridge, frame.packet.version)


def _vlan_of(
    journey: Journey, view: StackView, bridge: Link, port: Link, frame: Frame
) -> int | None:
    vid = taken_in(view, bridge, port, frame.vlan)
    if isinstance(vid, Obstacle):
        stop(journey, vid, Stage.BRIDGE, frame.packet)
    return vid


def _locked_out(view: StackView, bridge: Link, port: Link, frame: Frame) -> Obstacle | None:
    """A locked port takes frames only of those whom somebody has let in (BR_PORT_LOCKED)."""
    if port.port is None or not port.port.locked:
        return None
    if any(
        (entry.bridge, entry.port, entry.mac) == (bridge.name, port.name, frame.src_mac)
        for entry in view.stack.fdb or ()
        if not entry.local
    ):
        return None
    text = f"{port.name} is locked, and nobody let in {frame.src_mac}"
    return Obstacle(Reason.PORT_STATE, LinkRef(view.name, port.name), text)


def _redirected(journey: Journey, view: StackView, bridge: Link, frame: Frame) -> Frame:
    """A translation changed where a bridged frame goes (br_nf_pre_routing_finish, and _ipv6).

    It is routed as if it had come up. If it is then to go out by the same bridge it stays on
    layer 2, else it does go up; IPv4 also where it will only be refused for want of forwarding,
    which IPv6 does not ask for.
    """
    packet = frame.packet
    flow = flow_of(packet, bridge.name)
    up = replace(frame, dst_mac=bridge.mac)
    found = view.fib.lookup(flow)
    place = LinkRef(view.name, bridge.name)
    if found is None or found.refusal is not None:
        if packet.version == 6:
            text = f"no route to {packet.dst}, to which it was redirected"
            stop(journey, Obstacle(Reason.NO_ROUTE, place, text), Stage.BRIDGE, packet)
        return up
    local = found.route.type == "local"
    if packet.version == 4 and not local and not view.conf(bridge.name, "forwarding"):
        return up
    bad = check_source(view, bridge.name, flow, None if local else found.link)
    if bad is not None:
        stop(journey, Obstacle(bad.reason, place, bad.because), Stage.BRIDGE, packet)
    if found.link != bridge.name:
        return up
    next_hop = parse_address(found.gateway) if found.gateway else packet.dst
    answer = resolve(journey.view, view.name, bridge.name, next_hop, packet.src)
    if isinstance(answer, Silent):
        text = f"{next_hop}, to which it was redirected, does not answer on {bridge.name}"
        obstacle = answer.obstacle or Obstacle(Reason.UNRESOLVED, place, text)
        stop(journey, obstacle, Stage.BRIDGE, packet)
    answer = first_to_answer(journey, view, bridge.name, next_hop, packet, answer)
    return replace(frame, dst_mac=answer.mac)
