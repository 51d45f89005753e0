"""Where and why the kernel says a probe was lost: found among all that it said.

A rule's verdict, a drop and a neighbour that does not answer are told apart from what merely
befell a copy of the probe.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from kvmdiag.model.packet import Direction
from kvmdiag.model.trace import Outcome, Reason, RuleRef, Stage, Trace, Walk
from kvmdiag.probes.evidence.facts import Evidence, KernelDrop, RuleVerdict, Waiting
from kvmdiag.probes.evidence.reasons import Meaning, meaning
from kvmdiag.probes.observation import Observation

_CLOCKS = 20_000
"""How far apart the clocks of drops and of sightings may be (nanoseconds)."""

_SHOWN = (Stage.INGRESS, Stage.EGRESS)
_STOPPING = re.compile(r"-j (?:DROP|REJECT)\b|\b(?:drop|reject)\b|^policy DROP")


class Loss(NamedTuple):
    """Where and why the kernel says it ended: by a rule, by a drop, by both; or it waits."""

    stack: str
    rule: RuleRef | None
    verdict: RuleVerdict | None
    drop: KernelDrop | None
    waiting: Waiting | None = None

    @property
    def meaning(self) -> Meaning | None:
        """Of the drop, as far as it is known."""
        if self.waiting is not None:
            words = f"next hop {self.waiting.address} does not answer"
            return Meaning(Outcome.UNRESOLVED, Reason.UNRESOLVED, words)
        return None if self.drop is None else meaning(self.drop)

    @property
    def kernel(self) -> str | None:
        """The kernel's own words."""
        told = self.waiting or self.drop
        return None if told is None else str(told)

    @property
    def link(self) -> str | None:
        """The device the kernel names."""
        if self.waiting is not None:
            return self.waiting.link
        if self.drop is not None and self.drop.link is not None:
            return self.drop.link
        return None if self.verdict is None else self.verdict.out_link or self.verdict.in_link

    def is_as(self, expected: Trace) -> bool:
        """Whether this is just what was expected."""
        end = expected.end
        if expected.arrived is not False or end.stack != self.stack:
            return False
        if self.waiting is not None:
            return expected.outcome is Outcome.UNRESOLVED  # the model may know why, too
        if self.rule is not None:
            if end.decider is None:
                return expected.reason is Reason.NETFILTER
            return isinstance(end.decider, RuleRef) and _same(end.decider, self.rule)
        return self.meaning is None or self.meaning.agrees(expected.reason)


def find(
    evidence: Evidence, observation: Observation, fused: Walk, replied: bool
) -> tuple[Direction, Loss] | None:
    """Which way it was going when it was lost; a reply may be lost before it is ever seen."""
    directions: tuple[Direction, ...] = ("reply",) if replied else ("request", "reply")
    for direction in directions:
        loss = _loss(evidence, observation, fused, direction)
        if loss is not None:
            return direction, loss
    stuck = _stuck(evidence, observation, fused, directions[0])
    if stuck is None:
        return None
    end = fused.request.end
    arrived = fused.request.outcome is Outcome.DELIVERED and end.stack == stuck.stack
    return ("reply" if replied or arrived else "request"), stuck


def _loss(
    evidence: Evidence, observation: Observation, fused: Walk, direction: Direction
) -> Loss | None:
    """The drop that ended it: not one of a copy, after which the packet itself went on."""
    last = _last_seen(observation, fused, direction)
    drops = [one for one in evidence.drops if one.direction == direction and one.stack is not None]
    final = [one for one in drops if one.time_ns + _CLOCKS >= last]
    # What is flooded to a guest it is not meant for is dropped there.
    final = [one for one in final if one.reason != "OTHERHOST"] or final
    stopping = [one for one in evidence.verdicts if one.direction == direction and one.stops]
    if not final:
        watched = not any(one.source == "drop reasons" for one in evidence.unavailable)
        if watched or not stopping:
            return None
        verdict = stopping[-1]
        return Loss(verdict.rule.stack, verdict.rule, verdict, None)
    drop = final[-1]
    place = drop.stack or ""
    filtered = drop.reason in (None, "NETFILTER_DROP")
    here = [one for one in stopping if one.rule.stack == place] if filtered else []
    if here:
        return Loss(place, here[-1].rule, here[-1], drop)
    rule = _counted(evidence, place) if drop.reason == "NETFILTER_DROP" else None
    return Loss(place, rule, None, drop)


def _stuck(
    evidence: Evidence, observation: Observation, fused: Walk, direction: Direction
) -> Loss | None:
    """It waits for a next hop in the stack that it got into last, or in its source."""
    if observation.answer is not None or fused.works:
        return None
    seen = observation.travelling(direction)
    last = fused.request.hops[0].stack
    if seen:
        if seen[-1].direction_on_link == "out":
            return None
        last = seen[-1].stack
    awaited = [one for one in evidence.waiting if one.stack == last]
    return Loss(last, None, None, None, awaited[0]) if len(awaited) == 1 else None


def _last_seen(observation: Observation, fused: Walk, direction: Direction) -> int:
    """When it was last where it was to be, or where a machine took it for itself.

    Copies do not count: what a bridge floods to other ports, and what it shows of its own
    after it has sent the frame on.
    """
    expected = {
        (hop.stack, hop.link)
        for hop in fused.hops
        if hop.direction == direction and hop.predicted and hop.stage in _SHOWN
    }
    return max(
        (
            sighting.time_ns
            for sighting in observation.travelling(direction)
            if (sighting.direction_on_link == "in" and not sighting.tunnels)
            or (sighting.stack, sighting.link) in expected
        ),
        default=0,
    )


def _counted(evidence: Evidence, stack: str) -> RuleRef | None:
    """The only rule there that drops and whose counter grew; where verdicts cannot be had."""
    found = [
        change.rule
        for change in evidence.changes
        if change.rule is not None
        and change.rule.stack == stack
        and _STOPPING.search(change.rule.text)
    ]
    return found[0] if len(found) == 1 else None


def _same(one: RuleRef, other: RuleRef) -> bool:
    """The same rule, however well the two know it."""
    place = (one.stack, one.family, one.table, one.chain)
    if place != (other.stack, other.family, other.table, other.chain):
        return False
    return one.index == other.index if one.handle is None else one.handle == other.handle
