"""Holds what was seen of a packet against what the walk says of it."""

from __future__ import annotations

from collections.abc import Iterator

from differential.counting import is_traced, killer
from differential.plan import Ask, Case
from differential.probe import Arrival, Crossing, Observation, Seen
from differential.tracing import Place
from kvmdiag.model.trace import Outcome, Reason, RuleRef, Stage, Trace, Walk


def complaints(
    case: Case,
    ask: Ask,
    walks: tuple[Walk, ...],
    seen: tuple[Observation, ...],
    uncounted: frozenset[RuleRef],
) -> list[str]:
    """What the kernel did otherwise, in sentences; nothing when walk and kernel agree.

    ``uncounted`` are rules whose counters show that they stopped less than is said.
    """
    ports = {(s.name, link.name) for s in case.stacks for link in s.links if link.master}
    found = []
    for which, walk, observed in zip(("", "later "), walks, seen, strict=False):
        if not _recognisable(walk):
            continue
        found += _direction(f"{which}request", walk.request, observed.request, ports)
        if _is_mute(walk):
            continue
        if walk.reply is not None:
            found += _direction(f"{which}reply", walk.reply, observed.reply, ports)
        elif observed.reply.crossings or observed.reply.arrivals:
            found.append(f"there should be no {which}reply, but {_text(observed.reply)}")
        found += [
            f"{rule} has not counted what it is said to stop"
            for rule in map(killer, walk.traces)
            if rule in uncounted
        ]
    return [f"{ask}: {line}" for line in found]


def _recognisable(walk: Walk) -> bool:
    """Whether our packets can be told from others all the way.

    A TCP segment without data is known by the port that the question has to itself, a ping by
    its id; what a translation gives another one is lost from sight.
    """
    own = walk.request.hops[0].packet
    for trace in walk.traces:
        for hop in trace.hops:
            packet = hop.packet
            port = packet.sport if trace.direction == "request" else packet.dport
            if packet.proto != "udp" and (port, packet.icmp_id) != (own.sport, own.icmp_id):
                return False
    return True


def _is_mute(walk: Walk) -> bool:
    """Whether our server cannot answer: with UDP from a link-local address without its link."""
    packet = walk.request.end.packet
    return packet.proto == "udp" and packet.dst.is_link_local and walk.reply is not None


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
    rule = killer(trace)
    if rule is not None and is_traced(rule) and not _dropped_by(rule, seen):
        found.append(f"{name} was stopped by {_named(seen.dropped_by)}; {said}")
    found += [f"{name} {line}; {said}" for line in _rules(trace, seen, {s for s, _ in ports})]
    arrivals = {_arrival(trace)} - {None}
    if arrivals != seen.arrivals:
        found.append(f"{name} arrived as {sorted(seen.arrivals)}, not {arrivals}; {said}")
    return found


def _dropped_by(rule: RuleRef, seen: Seen) -> bool:
    return (rule.stack, _place(rule)) in seen.dropped_by


def _rules(trace: Trace, seen: Seen, bridging: set[str]) -> Iterator[str]:
    """Rules of nf_tables that the packet matched, and should not have, or the other way round.

    In a stack with bridges copies of it may have been flooded, and matched others.
    """
    rules = [r for hop in trace.hops for r in hop.matched if is_traced(r) and r.handle is not None]
    expected = {(rule.stack, _place(rule)) for rule in rules}
    # A map without an element for the packet ends the rule, which the kernel then does not tell of.
    sure = {(rule.stack, _place(rule)) for rule in rules if "map " not in rule.text}
    if missing := sure - seen.matched:
        yield f"did not match {_named(missing)}"
    extra = {
        (stack, place)
        for stack, place in seen.matched - expected
        if stack not in bridging and place.family != "netdev"
    }
    if extra:
        yield f"matched {_named(extra)}"


def _place(rule: RuleRef) -> Place:
    return Place(rule.family, rule.table, rule.chain, rule.handle)


def _named(rules: set[tuple[str, Place]]) -> str:
    return ", ".join(
        f"{stack}: {p.family} {p.table} {p.chain} {p.handle}" for stack, p in sorted(rules, key=str)
    )


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
    port = own_port = None
    if packet.proto in ("tcp", "udp") and trace.direction == "request":
        port = packet.dport
        own_port = packet.sport == trace.hops[0].packet.sport
    return Arrival(trace.end.stack, str(packet.src), str(packet.dst), port, own_port)


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
