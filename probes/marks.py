"""Which predicted hop a sighting belongs to, and what was seen beyond the prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from kvmdiag.model.trace import Hop, Outcome, Stage, Trace
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
    hops = _left_wrapped(_with_unseen(hops, trace, observation), trace)
    for index, sighting in enumerate(sightings):
        if index not in explained and not _repeats(sighting, hops):
            shown[index] = unexpected(sighting, observation)
            _insert(hops, index, shown)
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
        if sighting.tunnels != hop.tunnels:
            continue
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
        if hop.seen or not observation.looked_for(hop):
            continue
        stopped_here = index == len(hops) - 1 and not trace.arrived
        bridged = hop.stage is Stage.BRIDGE and index > last and observation.bridges_shown
        if not stopped_here and (hop.stage in _SHOWN or bridged):
            result[index] = msgspec.structs.replace(hop, seen=False)
    return result


def _left_wrapped(hops: list[Hop], trace: Trace) -> list[Hop]:
    """What left by a tunnel was seen to do so when what carries it was seen to leave."""
    wrapped = len(hops) > 1 and hops[-2].tunnels > hops[-1].tunnels
    if wrapped and trace.outcome is Outcome.LEFT and not hops[-1].seen:
        hops[-1] = msgspec.structs.replace(hops[-1], seen=hops[-2].seen, time_us=hops[-2].time_us)
    return hops


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
        decision="seen, wrapped" if sighting.tunnels else "seen",
        because="not predicted",
        predicted=False,
        seen=True,
        tunnels=sighting.tunnels,
        time_us=_microseconds(sighting, observation),
    )


def _insert(hops: list[Hop], index: int, shown: Mapping[int, Hop]) -> None:
    """Put what that sighting shows behind the one before it; without one, before the next."""
    places = {id(hop): at for at, hop in enumerate(hops)}
    if index - 1 in shown:
        at = places[id(shown[index - 1])] + 1
    else:
        later = (places[id(shown[one])] for one in sorted(shown) if one > index)
        at = next(later, len(hops))
    hops.insert(at, shown[index])


def _microseconds(sighting: Sighting, observation: Observation) -> float:
    return max(0.0, (sighting.time_ns - observation.sent_ns) / 1000)
