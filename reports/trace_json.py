"""``kvmdiag.trace/1``: the walk of a packet and its reply as one JSON object."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from kvmdiag.model.owner import owner_of
from kvmdiag.model.packet import Packet
from kvmdiag.model.trace import Hop, RuleRef, Trace, Walk
from kvmdiag.reports.kernel_json import kernel_object
from kvmdiag.reports.probe_notes import ProbeNotes

SCHEMA = "kvmdiag.trace/1"


def render_trace(
    walk: Walk, *, notes: ProbeNotes | None = None, unprobed: str | None = None
) -> str:
    """The object as indented ASCII text, which no control character survives in."""
    return json.dumps(trace_object(walk, notes=notes, unprobed=unprobed), indent=2) + "\n"


def trace_object(
    walk: Walk, *, notes: ProbeNotes | None = None, unprobed: str | None = None
) -> dict[str, Any]:
    """The object in plain dicts and lists; ``probe`` is ``null`` when none was sent.

    ``not_probed`` says why none could be, ``null`` when one was or was not asked for.

    ``outcome``, ``direction`` and ``dropped_at`` are those of the direction in which the fate
    was decided; ``hops`` are those of the request, then those of the reply.
    """
    decisive = walk.decisive
    return {
        "schema": SCHEMA,
        "outcome": decisive.outcome.value,
        "direction": decisive.direction,
        "works": walk.works,
        "hops": [_hop(hop) for hop in walk.hops],
        "dropped_at": None if decisive.arrived is not False else _dropped_at(decisive),
        "assumptions": list(
            dict.fromkeys(text for trace in walk.traces for text in trace.assumptions)
        ),
        "probe": None if notes is None else _probe(notes),
        "not_probed": unprobed,
    }


def _hop(hop: Hop) -> dict[str, Any]:
    return {
        "direction": hop.direction,
        "stack": hop.stack,
        "link": hop.link,
        "stage": hop.stage.value,
        "packet": _packet(hop.packet),
        "decision": hop.decision,
        "because": hop.because,
        "origin": None if hop.decider is None else str(hop.decider),
        "matched": [_rule(rule) for rule in hop.matched],
        "kernel_reason": hop.kernel_reason,
        "predicted": hop.predicted,
        "seen": hop.seen,
        "time_us": None if hop.time_us is None else round(hop.time_us, 3),
    }


def _rule(rule: RuleRef) -> dict[str, Any]:
    return {
        "backend": rule.backend,
        "family": rule.family,
        "table": rule.table,
        "chain": rule.chain,
        "handle": rule.handle,
        "owner": owner_of(rule),
        "text": rule.text,
    }


def _packet(packet: Packet) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(packet, enc_hook=str)
    return fields | {"tcp_flags": sorted(packet.tcp_flags)}


def _dropped_at(trace: Trace) -> dict[str, Any]:
    end = trace.end
    rule = str(end.decider) if isinstance(end.decider, RuleRef) else None
    owner = owner_of(end.decider) if isinstance(end.decider, RuleRef) else None
    return {
        "stack": end.stack,
        "link": end.link,
        "rule": rule,
        "owner": owner,
        "kernel_reason": end.kernel_reason,
    }


def _probe(notes: ProbeNotes) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(notes)
    kernel = None if notes.kernel is None else kernel_object(notes.kernel)
    return fields | {"unwatched": dict(notes.unwatched), "kernel": kernel}
