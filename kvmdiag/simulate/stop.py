"""A frame that gets no further on layer 2."""

from __future__ import annotations

from typing import NoReturn

from kvmdiag.model.link import Link, LinkRef
from kvmdiag.model.packet import Packet
from kvmdiag.model.trace import Outcome, Reason, Stage
from kvmdiag.simulate.journey import Journey
from kvmdiag.simulate.obstacles import Obstacle


def stop(journey: Journey, obstacle: Obstacle, stage: Stage, packet: Packet) -> NoReturn:
    """End the way at an obstacle: frames are dropped without a word."""
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


def require_room(
    journey: Journey, stack: str, link: Link, room: int, stage: Stage, packet: Packet
) -> None:
    """Links take frames up to their MTU, and some leave room for a VLAN tag beside."""
    if packet.length > room:
        text = f"{packet.length} bytes do not fit the MTU {link.mtu} of {link.name}"
        stop(journey, Obstacle(Reason.MTU, LinkRef(stack, link.name), text), stage, packet)
