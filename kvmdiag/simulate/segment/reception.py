"""Whether the one that asked takes a reply for the answer to what it sent."""

from __future__ import annotations

from msgspec.structs import replace

from kvmdiag.model.question import Question
from kvmdiag.model.trace import Hop, Outcome, Reason, Stage, Trace
from kvmdiag.simulate.facts.view import View


def as_received(view: View, question: Question, request: Trace, reply: Trace) -> Trace:
    """The reply as the one that asked has it: taken, not taken, or never come by.

    A reply that leaves by an uplink though who asked is here gets to it only if a router beyond
    sends it back.
    """
    if not reply.arrived:
        return reply
    end, asker = reply.end, request.hops[0].stack
    if question.source.stack is not None and reply.outcome is Outcome.LEFT:
        because = f"it is for {asker}, which is here, and nothing shows that it comes back in"
        last = replace(end, because=because)
        return _ending(reply, Outcome.UNKNOWN, Reason.NO_RETURN_ROUTE, last)
    mistake = _mistake(view, question, request, end)
    if mistake is None:
        return reply
    last = replace(end, decision="not taken for an answer", because=mistake)
    return _ending(reply, Outcome.DROPPED, Reason.NO_LISTENER, last)


def _mistake(view: View, question: Question, request: Trace, end: Hop) -> str | None:
    """Why what has arrived is no answer; ``None`` when it is one.

    A socket wants the answer from where it sent to, and one bound to a link by that link.
    """
    sent, got = request.hops[0].packet, end.packet
    asker, bound = request.hops[0].stack, question.source.link
    handed = _handed_to(view, end) if question.source.stack is not None else None
    if handed not in (None, asker):
        return f"the answer goes to {handed}, but {asker} asked"
    if end.stage is Stage.DELIVER and end.stack != asker:
        return f"the answer goes to {got.dst}, which is {end.stack}, but {asker} asked"
    if (got.src, got.sport) != (sent.dst, sent.dport):
        return f"the answer comes from {got.src}, but {sent.dst} was asked"
    if bound is not None and end.link != bound:
        return f"the answer came in by {end.link}, but only {bound} is listened to"
    return None


def _handed_to(view: View, end: Hop) -> str | None:
    """The guest that a link handed a packet to without its inside being seen."""
    if end.stage is not Stage.EGRESS or end.link is None:
        return None
    guest = view.link(end.stack, end.link).guest
    return None if guest is None else view.insides.get(guest) or guest


def _ending(reply: Trace, outcome: Outcome, reason: Reason, last: Hop) -> Trace:
    """The reply with another end."""
    return replace(reply, outcome=outcome, reason=reason, hops=(*reply.hops[:-1], last))
