"""Links: how a frame gets from one stack to the next.

Sources: net/core/dev.c (__netif_receive_skb_core), net/8021q/vlan_dev.c and vlan_core.c,
drivers/net/veth.c, macvlan.c, bonding/bond_main.c.
"""

from __future__ import annotations

from typing import Literal

from msgspec.structs import replace

from kvmdiag.model.link import Link, LinkRef
from kvmdiag.model.packet import Packet
from kvmdiag.model.trace import Outcome, Reason, Stage
from kvmdiag.simulate.facts.addresses import parse_network
from kvmdiag.simulate.facts.unread import NotUnderstood
from kvmdiag.simulate.facts.whereabouts import Upper
from kvmdiag.simulate.segment.obstacles import (
    Obstacle,
    admin_obstacle,
    cable_obstacle,
    link_obstacle,
)
from kvmdiag.simulate.segment.stacked import (
    bond_ports,
    lower_of,
    siblings,
    stands_by,
    taker,
    untaken,
    vlan_device,
)
from kvmdiag.simulate.way.any_of import one_of
from kvmdiag.simulate.way.bridging import VLAN_TAG, enter_bridge, send_by_bridge
from kvmdiag.simulate.way.device_hooks import device_hook
from kvmdiag.simulate.way.journey import Journey
from kvmdiag.simulate.way.steps import Arrive, Ascend, Ended, Frame, Step, Transmit
from kvmdiag.simulate.way.stop import require_room, stop
from kvmdiag.simulate.way.wrapping import enter_tunnel

_LONG_LIFE = 32
"""Routers that may lie beyond an uplink; hardly anything is farther away."""


def transmit(journey: Journey, step: Transmit) -> Step:
    """A link sends a frame: over its cable, into its bridge, or out of our sight."""
    link = journey.view.link(step.stack, step.link)
    packet = step.frame.packet
    if link.kind == "bridge":
        obstacle = admin_obstacle(step.stack, link)
    else:
        obstacle = cable_obstacle(journey.view, step.stack, link)
    if obstacle is not None:
        stop(journey, obstacle, Stage.EGRESS, packet)
    if link.kind == "bridge":
        return send_by_bridge(journey, step, link)
    if link.is_loopback:
        return Ascend(step.stack, link.name, step.frame)
    step = replace(step, frame=device_hook(journey, step.stack, "egress", step.frame, link))
    if link.filters:
        _pass_programs(journey, step.stack, link, "egress")
    lower = lower_of(step.stack, link)
    if link.vlan is not None and lower is not None:
        return _tag(journey, step, link, lower)
    if link.macvlan is not None and lower is not None:
        return _send_by_macvlan(journey, step, link, lower)
    if link.kind == "bond" and journey.stack(step.stack).ports.get(link.name):
        return _send_by_bond(journey, step, link)
    if link.vxlan is not None:
        return enter_tunnel(journey, step, link)
    return _hand_over(journey, step, link)


def _hand_over(journey: Journey, step: Transmit | Arrive, link: Link) -> Arrive:
    """A frame leaves the stack by a link: over its cable, to its guest, or to the outside."""
    packet = step.frame.packet
    if link.peer is not None:
        to = str(link.peer)
        journey.note(step.stack, link.name, Stage.EGRESS, packet, f"sent to {to}")
        if link.kind == "veth":
            # The far end looks at the size before it takes a frame (____dev_forward_skb).
            far = journey.view.link(link.peer.stack, link.peer.link)
            room = far.mtu + VLAN_TAG
            require_room(journey, link.peer.stack, far, room, Stage.INGRESS, packet)
        if link.peer.stack != step.stack:
            packet = replace(packet, mark=0)
        # A cable takes away everything but the frame itself (skb_scrub_packet).
        frame = Frame(packet, step.frame.src_mac, step.frame.dst_mac, vlan=step.frame.vlan)
        return Arrive(link.peer.stack, link.peer.link, frame)
    if link.guest is not None:
        decision = f"handed to guest {link.guest}"
        journey.assume(f"{link.guest} accepts the packet: its inside could not be seen")
        journey.note(step.stack, link.name, Stage.EGRESS, packet, decision)
        raise Ended(Outcome.DELIVERED, Reason.ARRIVED)
    if link.is_uplink:
        tagged = f" in VLAN {step.frame.vlan}" if step.frame.vlan else ""
        _require_long_life(journey, step.stack, link, packet)
        decision = f"leaves by {link.name} as {packet.src}{tagged}"
        journey.note(step.stack, link.name, Stage.EGRESS, packet, decision)
        journey.connections.left_with = step.frame.vlan
        raise Ended(Outcome.LEFT, Reason.LEFT)
    if link.tap is not None and link.tap.readers:
        programs = " and ".join(f"{one.name} ({one.pid})" for one in link.tap.readers)
        decision = f"handed to {programs} by {link.name} as {packet.src}"
        journey.assume(f"{programs} passes on what it reads from {link.name}")
        journey.note(step.stack, link.name, Stage.EGRESS, packet, decision)
        raise Ended(Outcome.LEFT, Reason.LEFT)
    if link.tap is not None:
        raise NotUnderstood(step.stack, f"it is not known which program reads {link.name}")
    raise NotUnderstood(step.stack, f"links of kind {link.kind} ({link.name}) are not modelled")


def _require_long_life(journey: Journey, stack: str, link: Link, packet: Packet) -> None:
    """A rule may leave a packet too little time to live for what lies beyond the uplink.

    Raises:
        NotUnderstood: so it is, unless its destination is in a network of this stack.

    """
    if packet.ttl >= _LONG_LIFE:
        return
    near = (parse_network(entry.network) for entry in journey.stack(stack).addresses)
    if not any(packet.dst in network for network in near):
        text = f"whether a time to live of {packet.ttl} is enough beyond {link.name}"
        raise NotUnderstood(stack, text)


def _tag(journey: Journey, step: Transmit, link: Link, lower: LinkRef) -> Transmit:
    """A VLAN link gives its frames a tag and its lower link (vlan_dev_hard_start_xmit)."""
    vlan = link.vlan
    if vlan is None or vlan.protocol != "802.1Q" or step.frame.vlan is not None:
        text = f"VLANs within VLANs, and those of 802.1ad ({link.name}), are not modelled"
        raise NotUnderstood(step.stack, text)
    decision = f"tagged with VLAN {vlan.vid}, sent by {_name(step.stack, lower)}"
    journey.note(step.stack, link.name, Stage.EGRESS, step.frame.packet, decision)
    frame = replace(_alone(step, lower.stack), vlan=vlan.vid)
    return Transmit(lower.stack, lower.link, frame)


def _send_by_macvlan(journey: Journey, step: Transmit, link: Link, lower: LinkRef) -> Step:
    """To a sibling if both are in mode bridge, else out by the lower link; never up from that."""
    packet = step.frame.packet
    for other in siblings(journey.view, step.stack, link):
        if other.link.mac == step.frame.dst_mac:
            to = LinkRef(other.stack, other.link.name)
            decision = f"goes over to {_name(step.stack, to)}, on {lower.link} as well"
            journey.note(step.stack, link.name, Stage.EGRESS, packet, decision)
            return _give(journey, Arrive(lower.stack, lower.link, _alone(step, other.stack)), other)
    decision = f"sent by {_name(step.stack, lower)}"
    journey.note(step.stack, link.name, Stage.EGRESS, packet, decision)
    return Transmit(lower.stack, lower.link, _alone(step, lower.stack))


def _alone(step: Transmit | Arrive, stack: str) -> Frame:
    """A frame without what its stack remembers of it, if it goes to another."""
    if stack == step.stack:
        return step.frame
    frame = step.frame
    return Frame(replace(frame.packet, mark=0), frame.src_mac, frame.dst_mac, vlan=frame.vlan)


def _name(stack: str, link: LinkRef) -> str:
    return link.link if link.stack == stack else str(link)


def _send_by_bond(journey: Journey, step: Transmit, bond: Link) -> Transmit:
    """By the active port, or one of those that share the load."""
    ports = bond_ports(journey.stack(step.stack), bond)
    if not ports:
        text = f"no port of {bond.name} is active"
        obstacle = Obstacle(Reason.NO_CARRIER, LinkRef(step.stack, bond.name), text)
        stop(journey, obstacle, Stage.EGRESS, step.frame.packet)
    port = ports[0]
    if len(ports) > 1:
        what = f"by which port {bond.name} sends"
        ways = [f"is {one.name}" for one in ports]
        at = (step.stack, bond.name, Stage.EGRESS, step.frame.packet)
        port = ports[one_of(journey, *at, None, what, ways)]
    decision = f"sent by {port.name}"
    journey.note(step.stack, bond.name, Stage.EGRESS, step.frame.packet, decision)
    return Transmit(step.stack, port.name, step.frame)


def arrive(journey: Journey, step: Arrive) -> Step:
    """A link takes a frame in and gives it to who stands on it, its bridge, or the IP layer."""
    view = journey.stack(step.stack)
    link = view.links[step.link]
    packet = step.frame.packet
    obstacle = None if link.up else link_obstacle(step.stack, link)
    if obstacle is not None:
        stop(journey, obstacle, Stage.INGRESS, packet)
    if link.kind == "macvtap":
        journey.note(step.stack, link.name, Stage.INGRESS, packet, "received from its guest")
        return Transmit(step.stack, link.name, step.frame)
    if link.xdp or link.filters:
        _pass_programs(journey, step.stack, link, "ingress")
    master = view.links.get(link.master or "")
    text = "received" if master is None else f"received, port of {master.name}"
    journey.note(step.stack, link.name, Stage.INGRESS, packet, text)
    step = replace(step, frame=device_hook(journey, step.stack, "ingress", step.frame, link))
    if step.frame.vlan and vlan_device(journey.view, step.stack, link.name, step.frame.vlan):
        return _up(journey, step)
    if master is None:
        on_top = taker(journey.view, LinkRef(step.stack, link.name), step.frame.dst_mac)
        return _up(journey, step) if on_top is None else _give(journey, step, on_top)
    if master.kind == "bond":
        return _enter_bond(journey, step, link, master)
    if master.kind != "bridge":
        raise NotUnderstood(step.stack, f"links of kind {master.kind} are not modelled")
    entered = enter_bridge(journey, step, link, master)
    if isinstance(entered, Transmit):
        return entered
    return _up(journey, Arrive(step.stack, master.name, entered))


def _pass_programs(
    journey: Journey, stack: str, link: Link, way: Literal["ingress", "egress"]
) -> None:
    """What may drop or redirect a frame unseen; that it does not is taken for granted."""
    if way == "ingress" and link.xdp:
        journey.assume(f"the XDP program on {link.name} of {stack} lets the packet through")
    if any((one.where == "ingress") is (way == "ingress") for one in link.filters or ()):
        journey.assume(f"the tc filters on {link.name} of {stack} let the packet through")


def _up(journey: Journey, step: Arrive) -> Step:
    """A frame goes up from a link: to the VLAN of its tag, or to IP if it has none."""
    vid = step.frame.vlan
    if not vid:
        return Ascend(step.stack, step.link, step.frame)
    device = vlan_device(journey.view, step.stack, step.link, vid)
    if device is None:
        stop(journey, untaken(step.stack, step.link, vid), Stage.INGRESS, step.frame.packet)
    frame = replace(_alone(step, device.stack), vlan=None)
    return Arrive(device.stack, device.link.name, frame)


def _give(journey: Journey, step: Arrive, to: Upper) -> Step:
    """A macvlan takes a frame from its lower link; a macvtap hands it to its program."""
    if not to.link.up:
        obstacle = link_obstacle(to.stack, to.link)
        assert obstacle is not None  # noqa: S101  it is set down
        stop(journey, obstacle, Stage.INGRESS, step.frame.packet)
    given = Arrive(to.stack, to.link.name, _alone(step, to.stack))
    return _hand_over(journey, given, to.link) if to.link.kind == "macvtap" else given


def _enter_bond(journey: Journey, step: Arrive, port: Link, bond: Link) -> Arrive:
    """What comes in by a port came in by the bond, unless that port only stands by."""
    obstacle = stands_by(step.stack, port, bond)
    if obstacle is not None:
        stop(journey, obstacle, Stage.INGRESS, step.frame.packet)
    return Arrive(step.stack, bond.name, step.frame)
