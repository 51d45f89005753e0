"""What gets no further: frames that meet an obstacle, and what is too long for a link."""

from __future__ import annotations

from typing import NoReturn

from kvmdiag.model.link import Link, LinkRef
from kvmdiag.model.packet import Packet
from kvmdiag.model.trace import LinkStateRef, Outcome, Reason, Stage
from kvmdiag.simulate.segment.obstacles import Obstacle
from kvmdiag.simulate.way.journey import Journey
from kvmdiag.simulate.way.steps import Ended


def stop(journey: Journey, obstacle: Obstacle, stage: Stage, packet: Packet) -> NoReturn:
    """End the way at an obstacle: frames are dropped without a word."""
    place = obstacle.place
    journey.note(
        place.stack,
        place.link,
        stage,
        packet,
        "dropped",
        obstacle.text,
        decider=obstacle.decider,
    )
    raise Ended(Outcome.DROPPED, obstacle.reason)


def require_room(
    journey: Journey, stack: str, link: Link, room: int, stage: Stage, packet: Packet
) -> None:
    """Links take frames up to their MTU, and some leave room for a VLAN tag beside."""
    if packet.length > room:
        text = _too_long(packet, link.mtu, link.name)
        stop(journey, Obstacle(Reason.MTU, LinkRef(stack, link.name), text), stage, packet)


def refuse_length(
    journey: Journey, stack: str, link: str, mtu: int, stage: Stage, packet: Packet, decision: str
) -> NoReturn:
    """End the way of a packet that must not be cut up; its sender is told."""
    journey.note(
        stack,
        link,
        stage,
        packet,
        decision,
        _too_long(packet, mtu, link),
        decider=LinkStateRef(stack=stack, link=link, text=f"mtu {mtu}"),
        out_link=link,
    )
    raise Ended(Outcome.REJECTED, Reason.MTU)


def _too_long(packet: Packet, mtu: int, link: str) -> str:
    return f"{packet.length} bytes do not fit the MTU {mtu} of {link}"
