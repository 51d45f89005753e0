"""Walks a request and its reply through a snapshot, step by step, as the kernel would."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kvmdiag.model.packet import IPAddress, Packet
from kvmdiag.model.question import Question
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.trace import Hop, Outcome, Reason, Stage, Trace, Walk
from kvmdiag.simulate import outside
from kvmdiag.simulate.alternatives import all_ways
from kvmdiag.simulate.facts.addresses import parse_address
from kvmdiag.simulate.facts.fib import Flow
from kvmdiag.simulate.facts.unread import NotRead, NotUnderstood
from kvmdiag.simulate.facts.view import View
from kvmdiag.simulate.forks import Choices
from kvmdiag.simulate.packets import reply_to, request_of
from kvmdiag.simulate.segment.reception import as_received
from kvmdiag.simulate.way.journey import OUTSIDE, Connections, Journey
from kvmdiag.simulate.way.layer2 import arrive, transmit
from kvmdiag.simulate.way.layer3 import ascend
from kvmdiag.simulate.way.originate import originate
from kvmdiag.simulate.way.steps import Arrive, Ascend, Ended, Frame, Originate, Step, Transmit
from kvmdiag.simulate.way.wrapping import leave_tunnel

# No packet passes this many links: each router takes one from the time to live, and a bridge
# that sends in circles is caught when a frame comes by a second time.
_STEPS = 1000


def walk(snapshot: Snapshot, question: Question, *, view: View | None = None) -> Walk:
    """What becomes of the asked packet, and of the reply to it.

    ``view`` may be given when the caller walks one snapshot many times. Where it cannot be
    told which way the packet goes all ways are walked; if they end alike so does the walk, and
    its assumptions name what could not be told, else it is unknown and says what decides.
    """
    known = view or View(snapshot)
    return all_ways(lambda choices: exchange(known, question, Connections(known), choices))


def exchange(
    view: View,
    question: Question,
    connections: Connections,
    choices: Choices | None = None,
) -> Walk:
    """Request and reply through stacks that remember ``connections``, and these too afterwards.

    Of what cannot be told one answer is supposed, that of ``choices``.
    """
    named = question.port is not None
    request = _request(Journey(view, "request", connections, choices, port_named=named), question)
    if not request.arrived:
        return Walk(question=question, request=request)
    answer = reply_to(request.end.packet)
    reply = Journey(view, "reply", connections, choices)
    if request.outcome is Outcome.DELIVERED:
        answered = _answer_of(view, request, answer)
        if answered is None:
            return Walk(question=question, request=request)
        answer_trace = _go(reply, answered)
    else:
        answer_trace = _from_outside(reply, request, answer)
    answer_trace = as_received(view, question, request, answer_trace)
    return Walk(question=question, request=request, reply=answer_trace)


def _request(journey: Journey, question: Question) -> Trace:
    packet = request_of(question)
    source = question.source
    if source.stack is not None:
        bound = parse_address(source.address) if source.address is not None else None
        return _go(journey, Originate(source.stack, packet, source.link, bound))
    try:
        return _go(journey, outside.enter(journey.view, packet))
    except (NotRead, NotUnderstood) as gap:
        return _untold(journey, gap, packet)


def _answer_of(view: View, request: Trace, answer: Packet) -> Originate | None:
    """The reply of the stack that got the request; ``None`` when its inside is not seen.

    It comes from where the request went to, unless that was a broadcast address (icmp_reply).
    """
    end = request.end
    if end.stage is not Stage.DELIVER:
        return None
    stack = view.stacks[end.stack]
    source: IPAddress | None = answer.src
    if answer.src not in stack.local_addresses:
        found = stack.fib.lookup(Flow(dst=answer.src))
        source = None if found is not None and found.route.type == "broadcast" else source
    return Originate(end.stack, answer, bound_address=source)


def _from_outside(journey: Journey, request: Trace, answer: Packet) -> Trace:
    """The reply to a packet that left: it comes back only if the outside knows the way."""
    try:
        doubt = outside.doubt_of_return(journey.view, request)
        vlan = journey.connections.left_with
        step = outside.come_back(journey.view, request, answer, vlan)
    except (NotRead, NotUnderstood) as gap:
        return _untold(journey, gap, answer)
    if doubt is not None:
        hop = Hop(
            direction="reply",
            stack=OUTSIDE,
            link=None,
            stage=Stage.ROUTE,
            packet=answer,
            decision=f"nothing shows that the outside has a route back to {answer.dst}",
            because=doubt,
        )
        return Trace(
            direction="reply",
            outcome=Outcome.UNKNOWN,
            reason=Reason.NO_RETURN_ROUTE,
            hops=(hop,),
        )
    journey.assume(f"{answer.src} answers")
    return _go(journey, step)


def _go(journey: Journey, step: Step) -> Trace:
    """Take steps until the way ends."""
    seen: dict[tuple[str, str], list[Frame]] = {}
    try:
        for _ in range(_STEPS):
            if isinstance(step, Arrive):
                before = seen.setdefault((step.stack, step.link), [])
                if step.frame in before:
                    raise _loop(journey, step)
                before.append(step.frame)
            try:
                step = _TAKE[type(step)](journey, step)
            except Ended as ended:
                if not journey.wrapped:
                    raise
                step = leave_tunnel(journey, ended)
        raise _loop(journey, step)
    except Ended as ended:
        return _trace(journey, ended.outcome, ended.reason)
    except NotRead as gap:
        _unknown(journey, gap.stack, str(gap), step)
        return _trace(journey, Outcome.UNKNOWN, Reason.NOT_READ)
    except NotUnderstood as gap:
        _unknown(journey, gap.stack, gap.what, step)
        return _trace(journey, Outcome.UNKNOWN, Reason.NOT_MODELLED)
    except RecursionError:
        # Only a made-up snapshot has hundreds of bridges one behind the other.
        _unknown(journey, step.stack, "too many bridges in a row to follow them all", step)
        return _trace(journey, Outcome.UNKNOWN, Reason.NOT_MODELLED)


_TAKE: Mapping[type[Step], Callable[[Journey, Any], Step]] = {
    Originate: originate,
    Transmit: transmit,
    Arrive: arrive,
    Ascend: ascend,
}


def _loop(journey: Journey, step: Step) -> Ended:
    packet = _packet(step)
    link = None if isinstance(step, Originate) else step.link
    journey.note(step.stack, link, Stage.BRIDGE, packet, "went in a circle")
    return Ended(Outcome.LOOP, Reason.LOOP)


def _unknown(journey: Journey, stack: str, why: str, step: Step) -> None:
    """Record that the walk cannot go on, where it stands."""
    packet = journey.hops[-1].packet if journey.hops else _packet(step)
    link = None if isinstance(step, Originate) else step.link
    stage = Stage.OUTPUT if isinstance(step, Originate) else Stage.ROUTE
    journey.note(stack, link, stage, packet, "cannot be told", why)


def _untold(journey: Journey, gap: NotRead | NotUnderstood, packet: Packet) -> Trace:
    """A way of which not even the beginning can be told."""
    journey.note(gap.stack, None, Stage.ROUTE, packet, "cannot be told", str(gap))
    reason = Reason.NOT_READ if isinstance(gap, NotRead) else Reason.NOT_MODELLED
    return _trace(journey, Outcome.UNKNOWN, reason)


def _packet(step: Step) -> Packet:
    return step.packet if isinstance(step, Originate) else step.frame.packet


def _trace(journey: Journey, outcome: Outcome, reason: Reason) -> Trace:
    for name in dict.fromkeys(hop.stack for hop in journey.hops):
        if name in journey.view.stacks:
            for sentence in journey.stack(name).stack.assumed:
                journey.assume(sentence)
    return Trace(
        direction=journey.direction,
        outcome=outcome,
        reason=reason,
        hops=tuple(journey.hops),
        assumptions=tuple(journey.assumptions),
    )
