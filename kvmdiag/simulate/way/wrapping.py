"""A frame goes into a VXLAN tunnel, and comes out of it."""

from __future__ import annotations

from kvmdiag.model.link import Link, LinkRef
from kvmdiag.model.trace import Outcome, Reason, Stage
from kvmdiag.simulate.facts.addresses import parse_address
from kvmdiag.simulate.segment.obstacles import Obstacle
from kvmdiag.simulate.segment.reach import reached_from
from kvmdiag.simulate.segment.tunnels import Peer, Wrapped, peers, unwrapper, wrapped
from kvmdiag.simulate.way.journey import Journey
from kvmdiag.simulate.way.steps import Arrive, Ended, Frame, Originate, Transmit
from kvmdiag.simulate.way.stop import stop


def enter_tunnel(journey: Journey, step: Transmit, link: Link) -> Originate:
    """The machine itself sends what carries the frame (vxlan_xmit_one)."""
    vxlan, frame = link.vxlan, step.frame
    assert vxlan is not None  # noqa: S101  the caller looked
    peer = _peer_towards(journey, step, link)
    if peer is None:
        text = f"{link.name} knows of no peer to send to"
        obstacle = Obstacle(Reason.NO_PORT, LinkRef(step.stack, link.name), text)
        stop(journey, obstacle, Stage.EGRESS, frame.packet)
    decision = f"wrapped as VXLAN {vxlan.vni}, for {peer.address}"
    journey.note(step.stack, link.name, Stage.EGRESS, frame.packet, decision)
    journey.wrapped.append(
        Wrapped(
            frame.packet,
            frame.src_mac,
            frame.dst_mac,
            frame.vlan,
            vxlan.vni,
            step.stack,
            link.name,
            str(peer.address),
        )
    )
    local = parse_address(vxlan.local) if vxlan.local is not None else None
    outer = wrapped(frame.packet, peer, local or peer.address)
    return Originate(step.stack, outer, link.lower, local)


def leave_tunnel(journey: Journey, ended: Ended) -> Arrive:
    """The carrying packet got where it was sent: the frame comes in by the tunnel's far end.

    Raises:
        Ended: it did not, or the far end is out of sight; then the frame left by the tunnel.

    """
    carried = journey.wrapped.pop()
    end = journey.hops[-1]
    if ended.outcome is Outcome.LEFT:
        decision = f"leaves by {carried.link}, wrapped, for {carried.peer}"
        journey.note(carried.stack, carried.link, Stage.EGRESS, carried.inner, decision)
        journey.connections.left_with = carried.vlan
        raise ended
    if ended.outcome is not Outcome.DELIVERED:
        raise ended
    link = unwrapper(journey.view, end.stack, end.packet.dport, carried.vni)
    if link is None:
        text = f"nothing on {end.stack} unwraps VXLAN {carried.vni} at port {end.packet.dport}"
        obstacle = Obstacle(Reason.NO_LISTENER, LinkRef(end.stack, end.link or "-"), text)
        stop(journey, obstacle, Stage.DELIVER, end.packet)
    frame = Frame(carried.inner, carried.src_mac, carried.dst_mac, vlan=carried.vlan)
    return Arrive(end.stack, link.name, frame)


def _peer_towards(journey: Journey, step: Transmit, link: Link) -> Peer | None:
    """The peer behind which the frame's MAC address is; a flood gets there as well."""
    mac = step.frame.dst_mac
    found = tuple(peers(journey.view, step.stack, link, mac))
    for peer in found if len(found) > 1 else ():
        if peer.end is None:
            continue
        behind = reached_from(
            journey.view, peer.end.stack, peer.end.link, incoming=True, despite_obstacles=True
        )
        if any(journey.view.link(p.stack, p.link).mac == mac for p in behind):
            return peer
    unseen = (peer for peer in found if peer.end is None)
    return next(unseen, found[0] if found else None)
