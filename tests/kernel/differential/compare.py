"""Holds what was seen of a packet against what the walk says of it."""

from __future__ import annotations

from differential.plan import Ask, Case
from differential.probe import Arrival, Crossing, Observation, Seen
from kvmdiag.model.trace import Outcome, Reason, Stage, Trace, Walk


def complaints(case: Case, ask: Ask, walk: Walk, seen: Observation) -> list[str]:
    """What the kernel did otherwise, in sentences; nothing when walk and kernel agree."""
    ports = {(s.name, link.name) for s in case.stacks for link in s.links if link.master}
    found = _direction("request", walk.request, seen.request, ports)
    if walk.reply is not None:
        if walk.reply.outcome is not Outcome.UNKNOWN:
            found += _direction("reply", walk.reply, seen.reply, ports)
    elif seen.reply.crossings or seen.reply.arrivals:
        found.append(f"there should be no reply, but {_text(seen.reply)}")
    return [f"{ask}: {line}" for line in found]


def is_unknown(walk: Walk) -> bool:
    """Whether the walk says that it cannot tell."""
    return any(trace.outcome is Outcome.UNKNOWN for trace in walk.traces)


def _direction(name: str, trace: Trace, seen: Seen, ports: set[tuple[str, str]]) -> list[str]:
    found = []
    expected = _expected(trace)
    observed = {c for c in seen.crossings if c in expected or (c.stack, c.link) not in ports} | (
        seen.strays & expected
    )
    said = f"the walk says {_said(trace)}"
    if missing := expected - observed:
        found.append(f"{name} not seen at {_places(missing)}; {said}")
    # A redirected frame is sent by the bridge itself, unless it knows the neighbour already.
    if extra := observed - expected - _redirected(trace):
        found.append(f"{name} seen at {_places(extra)}; {said}")
    arrivals = {_arrival(trace)} - {None}
    if arrivals != seen.arrivals:
        found.append(f"{name} arrived as {sorted(seen.arrivals)}, not {arrivals}; {said}")
    return found


def _expected(trace: Trace) -> set[Crossing]:
    """The links on which the walk wants the packet to be seen."""
    hops = trace.hops if trace.arrived or _heard(trace) else trace.hops[:-1]
    ways = {Stage.INGRESS: "in", Stage.EGRESS: "out"}
    return {
        Crossing(hop.stack, hop.link, ways[hop.stage])
        for hop in hops
        if hop.stage in ways and hop.link not in (None, "lo")
    }


def _redirected(trace: Trace) -> set[Crossing]:
    return {
        Crossing(hop.stack, hop.link or "", "out")
        for hop in trace.hops
        if hop.stage is Stage.BRIDGE
    }


def _heard(trace: Trace) -> bool:
    """Whether sockets get the packet, though nobody wants it."""
    return trace.reason is Reason.NO_LISTENER and trace.end.stage is Stage.DELIVER


def _arrival(trace: Trace) -> Arrival | None:
    if not trace.arrived and not _heard(trace):
        return None
    packet = trace.end.packet
    port = None
    if packet.proto != "icmp" and trace.direction == "request":
        port = packet.dport
    return Arrival(trace.end.stack, str(packet.src), str(packet.dst), port)


def _said(trace: Trace) -> str:
    end = trace.end
    return (
        f"{trace.outcome} ({trace.reason}) in {end.stack} at {end.stage} {end.link}:"
        f" {end.decision}, {end.because} [{end.decider}]"
    )


def _places(crossings: set[Crossing]) -> str:
    return ", ".join(f"{c.stack}/{c.link} {c.way}" for c in sorted(crossings))


def _text(seen: Seen) -> str:
    return f"it was seen at {_places(seen.crossings)} and arrived as {sorted(seen.arrivals)}"
