"""Takes a packet under way through a hook and records what became of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from msgspec.structs import replace

from kvmdiag.model.netfilter import Family, HookName
from kvmdiag.model.packet import IPAddress, Packet
from kvmdiag.model.trace import Outcome, Reason, Stage
from kvmdiag.simulate.facts.chains import BaseChain
from kvmdiag.simulate.facts.stack_view import StackView
from kvmdiag.simulate.rules.context import Context
from kvmdiag.simulate.rules.hook import HookResult, run_hook
from kvmdiag.simulate.rules.ruleset import Verdict
from kvmdiag.simulate.way.any_of import fork
from kvmdiag.simulate.way.journey import Journey
from kvmdiag.simulate.way.steps import Ended, Frame

_OUTGOING = frozenset({"output", "postrouting", "egress"})


def hook_context(
    view: StackView,
    hook: HookName,
    frame: Frame,
    in_link: str | None,
    out_link: str | None,
    *,
    family: Family | None = None,
    out_port: str | None = None,
    bridged: bool = False,
) -> Context:
    """What the rules of a hook see of a frame; by default the hook of the packet's own family."""
    return Context(
        view=view,
        hook=hook,
        family=family or frame.packet.family,
        packet=frame.packet,
        in_link=in_link,
        out_link=out_link,
        in_port=frame.in_port,
        out_port=out_port,
        bridged=bridged,
        own=frame.own if hook in _OUTGOING else None if hook == "input" else False,
        src_mac=frame.src_mac,
        dst_mac=frame.dst_mac,
    )


def pass_hook(
    journey: Journey,
    frame: Frame,
    at: Context,
    stage: Stage,
    link: str | None,
    next_hop: IPAddress | None = None,
    chains: tuple[BaseChain, ...] | None = None,
    reroute: Callable[[Packet], bool] | None = None,
) -> Frame:
    """The frame as the hook, or only ``chains`` of it, leave it; ``at`` is what rules see.

    ``reroute`` is for what the stack itself sends; see ``run_hook``.

    Raises:
        Ended: the packet is dropped or rejected there, or that cannot be told.
    """
    if chains is None and at.view.is_idle(at.family, at.hook):
        return frame
    result = run_hook(
        at,
        journey.connections.of(at.view.name),
        frame.tracked,
        next_hop,
        chains,
        partial(_choose, journey, at, stage, link),
        reroute,
    )
    if result.kind != "accept":
        _end(journey, at, stage, link, result)
    rule = result.translated_by or result.accepted_by
    rewritten = (result.packet.src, result.packet.dst) != (at.packet.src, at.packet.dst)
    if result.visited or rewritten:
        journey.note(
            at.view.name,
            link,
            stage,
            result.packet,
            _rewriting(at.packet, result.packet) if rewritten else "accepted",
            rule.text if rule is not None else _silent_reason(result, rewritten),
            decider=rule,
            in_link=at.in_link,
            out_link=at.out_link,
            matched=result.matched,
        )
    return replace(frame, packet=result.packet, tracked=result.tracked)


def _choose(journey: Journey, at: Context, stage: Stage, link: str | None, verdict: Verdict) -> int:
    """Which way this attempt to walk takes where rules cannot be evaluated."""
    return fork(
        journey,
        at.view.name,
        link,
        stage,
        at.packet,
        verdict.rule,
        verdict.why,
        tuple(way.supposed for way in verdict.ways),
        in_link=at.in_link,
        out_link=at.out_link,
    )


def _silent_reason(result: HookResult, rewritten: bool) -> str:
    if rewritten:
        return "the connection's translation"
    return "no rule stops it" if result.visited else ""


def _rewriting(before: Packet, after: Packet) -> str:
    parts = []
    if before.src != after.src:
        parts.append(f"source {before.src} becomes {after.src}")
    if before.dst != after.dst:
        parts.append(f"destination {before.dst} becomes {after.dst}")
    return ", ".join(parts)


def _end(journey: Journey, at: Context, stage: Stage, link: str | None, result: HookResult) -> None:
    """Record the end of the way at a hook."""
    outcome, decision = {
        "drop": (Outcome.DROPPED, "dropped"),
        "reject": (Outcome.REJECTED, f"rejected with {result.reply}"),
        "unknown": (Outcome.UNKNOWN, "cannot be told"),
        "accept": (Outcome.UNKNOWN, "accepted"),
    }[result.kind]
    because = result.rule.text if result.rule is not None else ""
    if result.why:
        because = f"{because} ({result.why})" if because else result.why
    journey.note(
        at.view.name,
        link,
        stage,
        result.packet,
        decision,
        because,
        decider=result.rule,
        in_link=at.in_link,
        out_link=at.out_link,
        matched=result.matched,
    )
    reason = Reason.NOT_MODELLED if outcome is Outcome.UNKNOWN else Reason.NETFILTER
    raise Ended(outcome, reason)
