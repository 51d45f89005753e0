"""The kernel's own account of how the probe ended, put into the walk.

What was seen on the links tells where a packet was last; this tells what became of it there.
"""

from __future__ import annotations

import msgspec

from kvmdiag.model.trace import Hop, Outcome, Reason, Stage, Trace, Walk
from kvmdiag.probes.evidence.loss import Loss, find
from kvmdiag.probes.observation import Observation

_STAGES = {
    "PREROUTING": Stage.PREROUTING,
    "INPUT": Stage.INPUT,
    "FORWARD": Stage.FORWARD,
    "OUTPUT": Stage.OUTPUT,
    "POSTROUTING": Stage.POSTROUTING,
}


def explained(predicted: Walk, fused: Walk, observation: Observation) -> Walk:
    """The fused walk with the kernel's account of a loss, and without settled assumptions."""
    evidence = observation.evidence
    if observation.doubt is None and observation.reached:
        return _settled(fused, request=True, reply=True)
    if evidence is None or observation.reached:
        return fused
    replied = bool(observation.travelling("reply"))
    found = find(evidence, observation, fused, replied)
    if found is None:
        if not replied or observation.doubt is not None:
            return fused
        return _settled(_answered(fused), request=True)
    direction, loss = found
    if direction == "request":
        told = _told(predicted.request, fused.request, loss, observation)
        return _settled(msgspec.structs.replace(fused, request=told, reply=None), request=True)
    if fused.reply is None:
        return fused
    told = _told(predicted.reply, fused.reply, loss, observation)
    return _settled(msgspec.structs.replace(fused, reply=told), request=True, reply=True)


def _settled(walk: Walk, *, request: bool = False, reply: bool = False) -> Walk:
    """Without what was assumed of a way that was then observed to its end."""
    changes = {}
    if request:
        changes["request"] = msgspec.structs.replace(walk.request, assumptions=())
    if reply and walk.reply is not None:
        changes["reply"] = msgspec.structs.replace(walk.reply, assumptions=())
    return msgspec.structs.replace(walk, **changes)


def _answered(walk: Walk) -> Walk:
    """Without the assumption that the destination answers: a reply was seen."""
    if walk.reply is None:
        return walk
    left = tuple(text for text in walk.reply.assumptions if not text.endswith(" answers"))
    return msgspec.structs.replace(
        walk, reply=msgspec.structs.replace(walk.reply, assumptions=left)
    )


def _told(expected: Trace | None, fused: Trace, loss: Loss, observation: Observation) -> Trace:
    """The trace that ends with the loss, as expected or otherwise."""
    kernel = loss.kernel
    hops = fused.hops if fused.end.predicted or fused.end.time_us is not None else fused.hops[:-1]
    if expected is not None and loss.is_as(expected):
        decider = expected.end.decider or loss.rule
        end = msgspec.structs.replace(
            expected.end, seen=True, kernel_reason=kernel, decider=decider
        )
        kept = tuple(hop for hop in hops if not _is_end(hop, expected.end))
        return msgspec.structs.replace(
            fused, outcome=expected.outcome, reason=expected.reason, hops=(*kept, end)
        )
    known = loss.meaning
    reason = Reason.NETFILTER if loss.rule is not None else Reason.NOT_MODELLED
    return msgspec.structs.replace(
        fused,
        outcome=_outcome(loss, observation),
        reason=known.reason if known is not None else reason,
        hops=(*hops, _new_end(fused, loss, kernel)),
    )


def _is_end(hop: Hop, end: Hop) -> bool:
    """The same hop, whatever was seen of it."""
    return (hop.predicted, hop.place, hop.stage, hop.decision) == (
        True,
        end.place,
        end.stage,
        end.decision,
    )


def _outcome(loss: Loss, observation: Observation) -> Outcome:
    known = loss.meaning
    if known is not None and known.outcome in (Outcome.NO_ROUTE, Outcome.UNRESOLVED):
        return known.outcome
    if observation.answer is not None:
        return Outcome.REJECTED
    return Outcome.DROPPED if known is None or loss.rule is not None else known.outcome


def _new_end(fused: Trace, loss: Loss, kernel: str | None) -> Hop:
    """A hop that was not predicted: the end the kernel tells of."""
    seen = [hop for hop in fused.hops if hop.seen] or list(fused.hops[:1])
    if loss.rule is not None:
        because = loss.rule.text
    elif loss.meaning is not None:
        because = loss.meaning.words
    else:
        because = f"the kernel says {kernel}"
    if not fused.end.predicted and fused.end.because:
        because += f"; {fused.end.because}"
    return Hop(
        direction=fused.direction,
        stack=loss.stack,
        link=loss.link,
        stage=_stage(loss, seen[-1]),
        packet=seen[-1].packet,
        decision="dropped",
        because=because,
        decider=loss.rule,
        in_link=None if loss.verdict is None else loss.verdict.in_link,
        out_link=None if loss.verdict is None else loss.verdict.out_link,
        predicted=False,
        seen=True,
        kernel_reason=kernel,
    )


def _stage(loss: Loss, last: Hop) -> Stage:
    """By the chain's name, else by the links that netfilter saw, else as the last hop."""
    verdict = loss.verdict
    if loss.waiting is not None:
        return Stage.NEIGHBOUR
    if loss.rule is not None and loss.rule.chain.upper() in _STAGES:
        return _STAGES[loss.rule.chain.upper()]
    if verdict is None:
        return last.stage
    if verdict.in_link is not None:
        return Stage.FORWARD if verdict.out_link is not None else Stage.INPUT
    return Stage.OUTPUT
