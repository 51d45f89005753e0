"""One of several things the kernel may do, as the hour or a hash has it: every one is walked."""

from __future__ import annotations

from collections.abc import Sequence

from kvmdiag.model.packet import Packet
from kvmdiag.model.trace import Decider, Hop, Stage
from kvmdiag.simulate.forks import Doubt, Fork
from kvmdiag.simulate.way.journey import Journey


def one_of(
    journey: Journey,
    stack: str,
    link: str | None,
    stage: Stage,
    packet: Packet,
    decider: Decider | None,
    what: str,
    ways: Sequence[str],
) -> int:
    """Which of several ways this attempt to walk takes.

    ``what`` cannot be told, and each way completes the sentence "if it ...".
    """
    answers = tuple((Doubt(decider, what, way),) for way in ways)
    return fork(journey, stack, link, stage, packet, decider, what, answers)


def fork(
    journey: Journey,
    stack: str,
    link: str | None,
    stage: Stage,
    packet: Packet,
    decider: Decider | None,
    because: str,
    ways: tuple[tuple[Doubt, ...], ...],
    *,
    in_link: str | None = None,
    out_link: str | None = None,
) -> int:
    """The same where each way is told by all that it supposes."""
    hop = Hop(
        direction=journey.direction,
        stack=stack,
        link=link,
        stage=stage,
        packet=packet,
        decision="cannot be told",
        because=because,
        decider=decider,
        in_link=in_link,
        out_link=out_link,
        tunnels=len(journey.wrapped),
    )
    return journey.choices.take(Fork(hop, len(journey.hops), ways))
