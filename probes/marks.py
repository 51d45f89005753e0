"""Which predicted hop a sighting belongs to, and what was seen beyond the prediction."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kvmdiag.model.trace import Hop, Stage, Trace
from kvmdiag.probes.observation import Observation, Sighting

_SHOWN = (Stage.INGRESS, Stage.EGRESS)
"""Stages at which every packet passes a capture point."""


def marked(trace: Trace, observation: Observation) -> Trace:
    """The predicted hops with what was seen of each, and what was seen besides."""
    sightings = observation.travelling(trace.direction)
    explained: set[int] = set()
    shown: dict[int, Hop] = {}
    hops: list[Hop] = []
    for hop in trace.hops:
        found = _match(hop, sightings, explained)
        if found is None:
            hops.append(hop)
            continue
        explained.add(found)
        time_us = _microseconds(sightings[found], observation)
        # The real packet, ports and lengths included; the skb mark cannot be seen on a link.
        packet = msgspec.structs.replace(sightings[found].packet, mark=hop.packet.mark)
        hops.append(msgspec.structs.replace(hop, seen=True, time_us=time_us, packet=packet))
        shown[found] = hops[-1]
    hops = _with_unseen(hops, trace, observation)
    for index, sighting in enumerate(sightings):
        if index not in explained and not _repeats(sighting, hops):
            shown[index] = unexpected(sighting, observation)
            _insert(hops, shown[index], after=shown.get(index - 1))
    return msgspec.structs.replace(trace, hops=tuple(hops))


def _match(hop: Hop, sightings: Sequence[Sighting], taken: set[int]) -> int | None:
    """Index of the sighting that shows this hop. A bridge hop may share its link's sighting."""
    if hop.stage not in (*_SHOWN, Stage.BRIDGE):
        return None
    for index, sighting in enumerate(sightings):
        if (sighting.stack, sighting.link) != (hop.stack, hop.link):
            continue
        if hop.stage is Stage.BRIDGE:
            return index
        if index not in taken and (sighting.direction_on_link == "out") == (
            hop.stage is Stage.EGRESS
        ):
            return index
    return None


def _with_unseen(hops: Sequence[Hop], trace: Trace, observation: Observation) -> list[Hop]:
    """Say "not seen" where somebody looked; the hop where it is stopped is not looked for."""
    last = max((i for i, hop in enumerate(hops) if hop.seen), default=-1)
    result = list(hops)
    for index, hop in enumerate(hops):
        if hop.seen or hop.stack not in observation.watched or hop.link is None:
            continue
        stopped_here = index == len(hops) - 1 and not trace.arrived
        bridged = hop.stage is Stage.BRIDGE and index > last and observation.bridges_shown
        if not stopped_here and (hop.stage in _SHOWN or bridged):
            result[index] = msgspec.structs.replace(hop, seen=False)
    return result


def _repeats(sighting: Sighting, hops: Sequence[Hop]) -> bool:
    """True for a bridge hop's other sighting: the hop stands for both sides of its link."""
    place = sighting.place
    return any(hop.stage is Stage.BRIDGE and hop.place == place for hop in hops)


def unexpected(sighting: Sighting, observation: Observation) -> Hop:
    """A hop that nobody predicted, made of its sighting."""
    outward = sighting.direction_on_link == "out"
    return Hop(
        direction=sighting.direction,
        stack=sighting.stack,
        link=sighting.link,
        stage=Stage.EGRESS if outward else Stage.INGRESS,
        packet=sighting.packet,
        decision="seen",
        because="not predicted",
        predicted=False,
        seen=True,
        time_us=_microseconds(sighting, observation),
    )


def _insert(hops: list[Hop], extra: Hop, *, after: Hop | None) -> None:
    """Put it behind the sighting before it; without one, before the first that was later."""
    if after is not None:
        at = next(index for index, hop in enumerate(hops) if hop is after) + 1
    else:
        later = (
            index
            for index, hop in enumerate(hops)
            if hop.time_us is not None and hop.time_us > (extra.time_us or 0)
        )
        at = next(later, len(hops))
    hops.insert(at, extra)


def _microseconds(sighting: Sighting, observation: Observation) -> float:
    return max(0.0, (sighting.time_ns - observation.sent_ns) / 1000)
