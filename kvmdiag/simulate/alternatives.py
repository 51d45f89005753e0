"""All ways a packet may go where rules cannot be evaluated, and what they come to together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from msgspec.structs import replace

from kvmdiag.model.trace import Hop, Outcome, Reason, RuleRef, Trace, Walk
from kvmdiag.simulate.forks import Choices, Fork, parting

_MOST = 32
"""Attempts; a packet that comes by more rules than these could tell is not followed on."""


class _Attempt(NamedTuple):
    """A walk with one answer to each doubt; ``before`` is one that answers only one otherwise."""

    walk: Walk
    choices: Choices
    before: _Attempt | None = None
    parted: int = 0


def all_ways(attempt: Callable[[Choices], Walk]) -> Walk:
    """What a walk comes to that is attempted with every answer to what cannot be told.

    That is the first attempt if all end alike in both directions, else one that is unknown.
    """
    choices = Choices()
    first = _Attempt(attempt(choices), choices)
    if not choices.forks:
        return first.walk
    attempts = [first]
    pending = _doubts(first, 0)
    replies_part: _Attempt | None = None
    while pending:
        if len(attempts) > _MOST:
            return _cut_short(first)
        before, number, answer = pending.popleft()
        choices = Choices((*before.choices.taken[:number], answer))
        other = _Attempt(attempt(choices), choices, before, number)
        if other.walk.request.outcome is not first.walk.request.outcome:
            return _undecided(other)
        if replies_part is None and _reply_outcome(other.walk) != _reply_outcome(first.walk):
            replies_part = other
        attempts.append(other)
        pending += _doubts(other, number + 1)
    return _agreed(attempts) if replies_part is None else _undecided(replies_part)


def _doubts(made: _Attempt, first: int) -> deque[tuple[_Attempt, int, int]]:
    """What could be answered otherwise than an attempt did, from a fork on."""
    return deque(
        (made, number, answer)
        for number, fork in enumerate(made.choices.forks)
        if number >= first
        for answer in range(1, len(fork.ways))
    )


def _reply_outcome(walk: Walk) -> Outcome | None:
    return walk.reply.outcome if walk.reply is not None else None


def _undecided(other: _Attempt) -> Walk:
    """An unknown walk that names the expression two attempts part at, and where each ends."""
    one, number = other.before, other.parted
    assert one is not None  # noqa: S101  it ends otherwise than the one before it
    fork = one.choices.forks[number]
    answers = (fork.ways[attempt.choices.taken[number]] for attempt in (one, other))
    doubt, contrary = parting(*answers)
    ends: tuple[Trace | None, Trace | None] = one.walk.request, other.walk.request
    if one.walk.request.outcome is other.walk.request.outcome:
        ends = one.walk.reply, other.walk.reply
    because = (
        f"{doubt.expression}: if it {doubt.answer}, {_ending(ends[0])};"
        f" if it {contrary.answer}, {_ending(ends[1])}"
    )
    hop = replace(fork.hop, decider=doubt.rule, because=because)
    return _ended_at(one.walk, other.walk, fork, hop)


def _cut_short(one: _Attempt) -> Walk:
    fork = one.choices.forks[0]
    because = f"{fork.hop.because}, and too many others that cannot be told"
    return _ended_at(one.walk, one.walk, fork, replace(fork.hop, because=because))


def _ended_at(one: Walk, other: Walk, fork: Fork, hop: Hop) -> Walk:
    """The walk as far as it is certain: both directions up to the fork, or where they differ."""
    if one.request.outcome != other.request.outcome or one is other:
        return Walk(question=one.question, request=_unknown(one.request, fork.position, hop))
    reply = one.reply or other.reply
    assert reply is not None  # noqa: S101  else their fates were the same
    if fork.hop.direction == "reply":
        position = fork.position
    else:
        # The same request with two replies: the rule stands on the way of the request.
        position = _common(one.reply, other.reply)
        hop = replace(hop, direction="reply")
    return replace(one, reply=_unknown(reply, position, hop))


def _common(one: Trace | None, other: Trace | None) -> int:
    """The number of hops that two ways have in common."""
    if one is None or other is None:
        return 0
    pairs = enumerate(zip(one.hops, other.hops, strict=False))
    shortest = min(len(one.hops), len(other.hops))
    return next((number for number, (a, b) in pairs if a != b), shortest)


def _unknown(trace: Trace, position: int, hop: Hop) -> Trace:
    return replace(
        trace,
        outcome=Outcome.UNKNOWN,
        reason=Reason.NOT_MODELLED,
        hops=(*trace.hops[:position], hop),
    )


def _agreed(attempts: list[_Attempt]) -> Walk:
    """The first walk, with a note of what could not be told and made no difference."""
    walk = attempts[0].walk
    notes: dict[str, list[str]] = {"request": [], "reply": []}
    for fork in (fork for attempt in attempts for fork in attempt.choices.forks):
        doubt, contrary = parting(fork.ways[0], fork.ways[1])
        direction = fork.hop.direction
        notes[direction].append(
            f"{doubt.expression} cannot be told, and makes no difference here: the {direction}"
            f" ends alike whether it {doubt.answer} or {contrary.answer}"
        )
    places = list(dict.fromkeys(_place(attempt.walk) for attempt in attempts))
    if len(places) > 1:
        notes["request"].append(f"the packet ends in {', or in '.join(places)}")
    request = _with(walk.request, notes["request"])
    reply = None if walk.reply is None else _with(walk.reply, notes["reply"])
    others = tuple(attempt.walk for attempt in attempts[1:])
    return replace(walk, request=request, reply=reply, alternatives=others)


def _with(trace: Trace, notes: list[str]) -> Trace:
    return replace(trace, assumptions=(*trace.assumptions, *dict.fromkeys(notes)))


def _place(walk: Walk) -> str:
    end = walk.request.end
    return f"{end.stack} as {end.packet.describe()}"


def _ending(trace: Trace | None) -> str:
    """``the reply is dropped in host by policy DROP``: how one way ends, as a clause."""
    if trace is None:
        return "nobody replies"
    end = trace.end
    word = {Outcome.LEFT: "leaves", Outcome.UNKNOWN: "ends unknown"}.get(
        trace.outcome, f"is {trace.outcome}"
    )
    by = end.decider.text if isinstance(end.decider, RuleRef) else end.because
    told = f"the {trace.direction} {word} in {end.stack}"
    return told if trace.arrived or not by else f"{told} by {by}"
