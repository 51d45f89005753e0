"""Prediction and observation in one walk.

Each predicted hop that shows a link learns whether the probe was seen there and when; what was
seen beyond the prediction is added; and how it ended is what happened, not what was expected.
"""

from __future__ import annotations

import msgspec

from kvmdiag.model.trace import Hop, Outcome, Reason, Stage, Trace, Walk
from kvmdiag.probes.evidence.explain import explained
from kvmdiag.probes.fuse_reply import never_came, unpredicted_reply
from kvmdiag.probes.marks import marked
from kvmdiag.probes.observation import Observation
from kvmdiag.simulate.way.journey import OUTSIDE

REFUSED = "refused"
"""The decision of the hop at which a probe was answered with no."""


def fuse(walk: Walk, observation: Observation) -> Walk:
    """The walk as it was: hops marked, times set (microseconds since sending), ends corrected."""
    return explained(walk, _by_sight(walk, observation), observation)


def _by_sight(walk: Walk, observation: Observation) -> Walk:
    """By what was seen on the links and by the answer."""
    request = marked(walk.request, observation)
    reply = None if walk.reply is None else marked(walk.reply, observation)
    if reply is None and (observation.travelling("reply") or observation.reached):
        reply = unpredicted_reply(walk, observation)
    if observation.reached and reply is not None:
        request, reply = _arrived(request), _arrived(reply)
    elif observation.answer is not None and observation.answer.kind == "refused":
        request = _refused(request, observation, observation.answer.text)
    elif reply is not None and observation.travelling("reply"):
        request, reply = _arrived(request), _lost(reply, observation)
    elif _seen_to_its_end(request, observation):
        reply = never_came(walk, request, reply, observation)
    else:
        request, reply = _lost(request, observation), None
    return msgspec.structs.replace(walk, request=request, reply=reply)


def _predicted_end(trace: Trace) -> Hop:
    return next((hop for hop in reversed(trace.hops) if hop.predicted), trace.end)


def _went_further(trace: Trace, observation: Observation) -> bool:
    """True when it was seen beyond the place where it was expected to end.

    A bridge floods what it does not know to ports that are not on the way, and a tunnel to all
    its peers; so only a frame that a machine took for itself counts, and one that left by the
    link it was not to leave by: any frame, where the next hop was not to be found.
    """
    end = _predicted_end(trace)
    expected = {(hop.stack, hop.link) for hop in trace.hops if hop.predicted and hop is not end}
    barred = {(end.stack, end.link), (end.stack, end.out_link)}
    if end.stage is Stage.NEIGHBOUR:
        expected -= barred
    return any(
        (
            sighting.direction_on_link == "in"
            and not sighting.tunnels
            and (sighting.stack, sighting.link) not in expected | barred
        )
        or (
            sighting.direction_on_link == "out"
            and (sighting.stack, sighting.link) in barred - expected
        )
        for sighting in observation.travelling(trace.direction)
    )


def _arrived(trace: Trace) -> Trace:
    """The trace of a packet that is known to have got there, whatever was predicted."""
    if trace.arrived:
        hops = tuple(
            msgspec.structs.replace(hop, seen=True) if hop.stage is Stage.DELIVER else hop
            for hop in trace.hops
        )
        return msgspec.structs.replace(trace, hops=hops)
    expected = _predicted_end(trace)
    seen = [hop for hop in trace.hops if hop.seen]
    end = msgspec.structs.replace(
        seen[-1] if seen else expected,
        stage=Stage.DELIVER,
        decision="arrived",
        because=f"seen to arrive, where the model expected: {expected.decision}",
        decider=None,
        predicted=False,
        seen=True,
    )
    return msgspec.structs.replace(
        trace, outcome=Outcome.DELIVERED, reason=Reason.ARRIVED, hops=(*trace.hops, end)
    )


def _refused(request: Trace, observation: Observation, text: str) -> Trace:
    """The trace of a packet that was answered with no, by its destination or a rule on the way.

    A rule that was expected to is believed, unless the packet was seen behind it. Of one that
    left by an uplink it was somebody outside.
    """
    if request.outcome is Outcome.REJECTED and not _went_further(request, observation):
        return request
    end = msgspec.structs.replace(
        request.end,
        decision=REFUSED,
        because=text,
        decider=None,
        predicted=False,
        time_us=None,
    )
    if request.outcome is Outcome.LEFT:
        end = msgspec.structs.replace(end, stack=OUTSIDE, link=None, out_link=None, seen=None)
    return msgspec.structs.replace(
        request,
        outcome=Outcome.REJECTED,
        reason=Reason.NOT_MODELLED,
        hops=(*request.hops, end),
    )


def _lost(trace: Trace, observation: Observation) -> Trace:
    """The trace of a packet that did not arrive: the predicted end if it fits, else a new one."""
    unseen = _first_unseen_after_last_seen(trace)
    further = not trace.arrived and _went_further(trace, observation)
    if trace.arrived is False and unseen is None and not further:
        return trace
    if (
        trace.arrived is None and unseen is None and not further
    ):  # known now; the place was in doubt anyway
        return msgspec.structs.replace(trace, outcome=_outcome(observation))
    end = _place_of_loss(trace, unseen, observation)
    return msgspec.structs.replace(
        trace,
        outcome=_outcome(observation),
        reason=Reason.NOT_MODELLED,
        hops=(*trace.hops, end),
    )


def _outcome(observation: Observation) -> Outcome:
    return Outcome.DROPPED if observation.answer is None else Outcome.REJECTED


def _first_unseen_after_last_seen(trace: Trace) -> Hop | None:
    last = max((i for i, hop in enumerate(trace.hops) if hop.seen), default=-1)
    return next((hop for hop in trace.hops[last + 1 :] if hop.seen is False), None)


def _place_of_loss(trace: Trace, unseen: Hop | None, observation: Observation) -> Hop:
    seen = [hop for hop in trace.hops if hop.seen]
    last = seen[-1] if seen else trace.hops[0]
    told = f"; the sender was told: {observation.answer.text}" if observation.answer else ""
    if unseen is not None:
        because = f"the model expected it at {unseen.place} next, where it was not seen"
    elif trace.arrived:
        because = "seen at the last link of its way; what is behind took it and gave nothing back"
    else:
        end = _predicted_end(trace)
        because = f"the model expected it to end before: {end.decision} at {end.place}"
    return msgspec.structs.replace(
        last,
        decision="last seen here" if seen else "not seen anywhere",
        because=because + told,
        decider=None,
        predicted=False,
        seen=bool(seen),
        time_us=None,  # it stands before, with its time
    )


def _seen_to_its_end(request: Trace, observation: Observation) -> bool:
    """True when the request got as far as can be seen and was expected to arrive."""
    if not request.arrived:
        return False
    if observation.answer is not None:
        return False
    return _first_unseen_after_last_seen(request) is None and any(h.seen for h in request.hops)
