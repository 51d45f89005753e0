"""One case from plan to verdict."""

from __future__ import annotations

from dataclasses import dataclass

from differential.build import Built, built
from differential.compare import complaints, is_unknown
from differential.plan import Ask, Case
from differential.probe import Watch
from kvmdiag.collect.scope import Scope
from kvmdiag.collect.snapshot import collect
from kvmdiag.model.question import Endpoint, Question
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.trace import Walk
from kvmdiag.simulate.endpoints import resolve
from kvmdiag.simulate.view import View
from kvmdiag.simulate.walk import walk


@dataclass(frozen=True)
class Verdict:
    """How many questions walk and kernel agree on, and what is wrong with the others."""

    agreed: int
    unknown: int
    complaints: tuple[str, ...]
    doubts: tuple[str, ...] = ()
    fates: tuple[str, ...] = ()
    """How the walks end, for a look at what the generator draws."""
    suspects: tuple[Ask, ...] = ()
    """The questions that walk and kernel disagree on."""


QUIET = 0.12
PATIENT = 1.0
"""Seconds without a packet after which nothing more is waited for."""


def judge(case: Case, quiet: float = QUIET) -> Verdict:
    """Build the case, predict, send, compare."""
    with built(case) as network, Watch(network) as watch:
        snapshot = snapshot_of(network)
        view = View(snapshot)
        walks = [walk(snapshot, question(snapshot, ask), view=view) for ask in case.asks]
        seen = watch.ask(quiet)
    agreed = unknown = 0
    wrong: list[str] = []
    doubts: list[str] = []
    suspects: list[Ask] = []
    for ask, predicted, observation in zip(case.asks, walks, seen, strict=True):
        if is_unknown(predicted):
            unknown += 1
            end = predicted.traces[-1].end
            doubts.append(f"{end.stack}: {end.because}")
            continue
        found = complaints(case, ask, predicted, observation)
        wrong += found
        agreed += not found
        if found:
            suspects.append(ask)
    fates = tuple(_fate(predicted) for predicted in walks)
    return Verdict(agreed, unknown, tuple(wrong), tuple(doubts), fates, tuple(suspects))


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
    asked = resolve(snapshot, source, ask.address, proto=ask.proto, port=ask.port, version=4)
    if ask.bound is None:
        return asked
    start = Endpoint(text=source, stack=source, address=ask.bound)
    return Question(source=start, destination=asked.destination, proto=asked.proto, port=asked.port)


def explain(case: Case, ask: Ask) -> Walk:
    """The walk of one question, for looking into a disagreement."""
    with built(case) as network:
        snapshot = snapshot_of(network)
        return walk(snapshot, question(snapshot, ask))
