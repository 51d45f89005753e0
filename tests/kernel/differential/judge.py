"""One case from plan to verdict."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from differential.build import Built, built
from differential.compare import complaints, is_unknown
from differential.counting import uncounted
from differential.plan import Ask, Case
from differential.probe import Watch
from kvmdiag.collect.scope import Scope
from kvmdiag.collect.snapshot import collect
from kvmdiag.model.question import Endpoint, Question
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.trace import Walk
from kvmdiag.simulate.endpoints import resolve
from kvmdiag.simulate.facts.view import View
from kvmdiag.simulate.walk import exchange, walk
from kvmdiag.simulate.way.journey import Connections


@dataclass(frozen=True)
class Verdict:
    """How many questions walk and kernel agree on, and what is wrong with the others."""

    agreed: int
    unknown: int
    complaints: tuple[str, ...]
    doubts: tuple[str, ...] = ()
    fates: tuple[str, ...] = ()
    """How the walks end, for a look at what the generator draws."""
    later: tuple[str, ...] = ()
    """How those of later packets end, where there are any."""
    suspects: tuple[Ask, ...] = ()
    """The questions that walk and kernel disagree on."""


QUIET = 0.12
PATIENT = 1.5
"""Seconds without a packet after which nothing more is waited for; what the kernel asks or sends
again, because it was not answered at once, comes after one."""

Walks = tuple[Walk, ...]
"""A flow's first packet and its reply, and the next two, if it comes to that."""


def judge(case: Case, quiet: float = QUIET) -> Verdict:
    """Build the case, predict, send, compare."""
    with built(case) as network, Watch(network) as watch:
        snapshot = snapshot_of(network)
        predicted = [_walks(snapshot, ask) for ask in case.asks]
        for stack in snapshot.stacks:
            if any(table.backend != "iptables-legacy" for table in stack.tables or ()):
                watch.trace(stack.name)
        seen = watch.ask(quiet)
        idle = uncounted(snapshot, predicted, lambda: snapshot_of(network))
    agreed = unknown = 0
    wrong: list[str] = []
    doubts: list[str] = []
    suspects: list[Ask] = []
    for ask, walks, observed in zip(case.asks, predicted, seen, strict=True):
        if any(is_unknown(found) for found in walks):
            unknown += 1
            end = walks[-1].traces[-1].end
            doubts.append(f"{end.stack}: {end.because}")
            continue
        found = complaints(case, ask, walks, observed, idle)
        wrong += found
        agreed += not found
        if found:
            suspects.append(ask)
    fates = tuple(_fate(walks[0]) for walks in predicted)
    later = tuple(_fate(walks[-1]) for walks in predicted if len(walks) > 1)
    return Verdict(agreed, unknown, tuple(wrong), tuple(doubts), fates, later, tuple(suspects))


def _walks(snapshot: Snapshot, ask: Ask) -> Walks:
    """What is predicted of a question: nothing of later packets where already the first is unclear.

    Nor of those of TCP where there is no connection, and of such that may have been told of a
    smaller MTU.
    """
    view = View(snapshot)
    asked = question(snapshot, ask)
    first = walk(snapshot, asked, view=view)
    if is_unknown(first) or ask.size or (ask.proto == "tcp" and not first.works):
        return (first,)
    connections = Connections(view)
    sent = exchange(view, asked, connections).request.hops[0].packet
    connections.settle()
    later = replace(asked, source_port=sent.icmp_id if sent.sport is None else sent.sport)
    return first, exchange(view, later, connections)


def _fate(predicted: Walk) -> str:
    trace = predicted.decisive
    return f"{trace.direction} {trace.outcome} {trace.reason}"


def snapshot_of(network: Built) -> Snapshot:
    """All of a network, its first stack taken for the host; stacks have the plan's names."""
    stacks = [stack.name for stack in network.case.stacks]
    return collect(
        Scope(
            host=network.path(stacks[0]),
            include=(network.glob,),
            names={network.path(name): name for name in stacks},
            libvirt=False,
        )
    )


def question(snapshot: Snapshot, ask: Ask) -> Question:
    """What the walk is asked."""
    source = snapshot.host if ask.source == "host" else ask.source
    version = 6 if ":" in ask.address else 4
    asked = resolve(snapshot, source, ask.address, proto=ask.proto, port=ask.port, version=version)
    start = asked.source
    if ask.bound is not None:
        start = Endpoint(text=source, stack=source, address=ask.bound)
    return Question(
        source=start,
        destination=asked.destination,
        proto=asked.proto,
        port=asked.port,
        size=ask.size,
    )


def explain(case: Case, ask: Ask) -> Walk:
    """The walk of one question, for looking into a disagreement."""
    with built(case) as network:
        snapshot = snapshot_of(network)
        return walk(snapshot, question(snapshot, ask))
