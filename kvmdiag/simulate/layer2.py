"""Links: how a frame gets from one stack to the next.

Sources: net/core/dev.c (__netif_receive_skb_core), net/8021q/vlan_dev.c and vlan_core.c,
drivers/net/veth.c, macvlan.c, bonding/bond_main.c.
"""

from __future__ import annotations

from msgspec.structs import replace

from kvmdiag.model.link import Link, LinkRef
from kvmdiag.model.trace import Outcome, Reason, Stage
from kvmdiag.simulate.bridging import VLAN_TAG, enter_bridge, send_by_bridge
from kvmdiag.simulate.device_hooks import device_hook
from kvmdiag.simulate.journey import Journey
from kvmdiag.simulate.obstacles import Obstacle, admin_obstacle, cable_obstacle, link_obstacle
from kvmdiag.simulate.stacked import bond_ports, siblings, taker, untaken, vlan_device
from kvmdiag.simulate.steps import Arrive, Ascend, Ended, Frame, Step, Transmit
from kvmdiag.simulate.stop import require_room, stop
from kvmdiag.simulate.unread import NotUnderstood


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
    if link.vlan is not None and link.lower is not None:
        return _tag(journey, step, link, link.lower)
    if link.macvlan is not None and link.lower is not None:
        return _send_by_macvlan(journey, step, link, link.lower)
    if link.kind == "bond" and journey.stack(step.stack).ports.get(link.name):
        return _send_by_bond(journey, step, link)
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
        decision = f"leaves by {link.name} as {packet.src}{tagged}"
        journey.note(step.stack, link.name, Stage.EGRESS, packet, decision)
        journey.connections.left_with = step.frame.vlan
        raise Ended(Outcome.LEFT, Reason.LEFT)
    raise NotUnderstood(step.stack, f"links of kind {link.kind} ({link.name}) are not modelled")


def _tag(journey: Journey, step: Transmit, link: Link, lower: str) -> Transmit:
    """A VLAN link gives its frames a tag and its lower link (vlan_dev_hard_start_xmit)."""
    vlan = link.vlan
    if vlan is None or vlan.protocol != "802.1Q" or step.frame.vlan is not None:
        text = f"VLANs within VLANs, and those of 802.1ad ({link.name}), are not modelled"
        raise NotUnderstood(step.stack, text)
    decision = f"tagged with VLAN {vlan.vid}, sent by {lower}"
    journey.note(step.stack, link.name, Stage.EGRESS, step.frame.packet, decision)
    return Transmit(step.stack, lower, replace(step.frame, vlan=vlan.vid))


def _send_by_macvlan(journey: Journey, step: Transmit, link: Link, lower: str) -> Step:
    """To a sibling if both are in mode bridge, else out by the lower link; never up from that."""
    frame, packet = step.frame, step.frame.packet
    for other in siblings(journey.stack(step.stack), link):
        if other.mac == frame.dst_mac:
            decision = f"goes over to {other.name}, on {lower} as well"
            journey.note(step.stack, link.name, Stage.EGRESS, packet, decision)
            return _give(journey, Arrive(step.stack, lower, frame), other)
    journey.note(step.stack, link.name, Stage.EGRESS, packet, f"sent by {lower}")
    return Transmit(step.stack, lower, frame)


def _send_by_bond(journey: Journey, step: Transmit, bond: Link) -> Transmit:
    """By the active port, or one of those that share the load."""
    ports = bond_ports(journey.stack(step.stack), bond)
    if not ports:
        text = f"no port of {bond.name} is active"
        obstacle = Obstacle(Reason.NO_CARRIER, LinkRef(step.stack, bond.name), text)
        stop(journey, obstacle, Stage.EGRESS, step.frame.packet)
    if len(ports) > 1:
        names = ", ".join(port.name for port in ports)
        journey.assume(f"{bond.name} reaches the same by each of its ports: {names}")
    decision = f"sent by {ports[0].name}"
    journey.note(step.stack, bond.name, Stage.EGRESS, step.frame.packet, decision)
    return Transmit(step.stack, ports[0].name, step.frame)


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
    master = view.links.get(link.master or "")
    text = "received" if master is None else f"received, port of {master.name}"
    journey.note(step.stack, link.name, Stage.INGRESS, packet, text)
    step = replace(step, frame=device_hook(journey, step.stack, "ingress", step.frame, link))
    if step.frame.vlan and vlan_device(view, link.name, step.frame.vlan) is not None:
        return _up(journey, step)
    if master is None:
        on_top = taker(view, link.name, step.frame.dst_mac)
        return _up(journey, step) if on_top is None else _give(journey, step, on_top)
    if master.kind == "bond":
        return _enter_bond(journey, step, link, master)
    if master.kind != "bridge":
        raise NotUnderstood(step.stack, f"links of kind {master.kind} are not modelled")
    entered = enter_bridge(journey, step, link, master)
    if isinstance(entered, Transmit):
        return entered
    return _up(journey, Arrive(step.stack, master.name, entered))


def _up(journey: Journey, step: Arrive) -> Step:
    """A frame goes up from a link: to the VLAN of its tag, or to IP if it has none."""
    view, vid = journey.stack(step.stack), step.frame.vlan
    if not vid:
        return Ascend(step.stack, step.link, step.frame)
    device = vlan_device(view, step.link, vid)
    if device is None:
        stop(journey, untaken(step.stack, step.link, vid), Stage.INGRESS, step.frame.packet)
    return Arrive(step.stack, device.name, replace(step.frame, vlan=None))


def _give(journey: Journey, step: Arrive, to: Link) -> Step:
    """A macvlan takes a frame from its lower link; a macvtap hands it to its program."""
    if not to.up:
        obstacle = link_obstacle(step.stack, to)
        assert obstacle is not None  # noqa: S101  it is set down
        stop(journey, obstacle, Stage.INGRESS, step.frame.packet)
    if to.kind == "macvtap":
        return _hand_over(journey, step, to)
    return Arrive(step.stack, to.name, step.frame)


def _enter_bond(journey: Journey, step: Arrive, port: Link, bond: Link) -> Arrive:
    """What comes in by a port came in by the bond, unless that port only stands by."""
    if port.bond_port is not None and port.bond_port.state == "backup":
        text = f"{port.name} stands by: {bond.name} takes nothing from it"
        obstacle = Obstacle(Reason.PORT_STATE, LinkRef(step.stack, port.name), text)
        stop(journey, obstacle, Stage.INGRESS, step.frame.packet)
    return Arrive(step.stack, bond.name, step.frame)
