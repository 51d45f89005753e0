"""Everything the kernel says of probes, gathered while it is on its way.

with gathering(snapshot, walk, probes) as kernel:
    send()
    ...
    evidence = kernel.evidence()[0]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

from kvmdiag.errors import NotReadableError
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Walk
from kvmdiag.probes.evidence.drops import DropWatch
from kvmdiag.probes.evidence.facts import Evidence, KernelDrop, Unavailable
from kvmdiag.probes.evidence.perf_drops import PerfDropWatch
from kvmdiag.probes.evidence.stack_watch import StackWatch
from kvmdiag.probes.observation import Sighting
from kvmdiag.probes.packet import Probe

MOST_STACKS = 16
"""More stacks than this are on hardly any path."""


class Drops(Protocol):
    """A source of the kernel's drop reasons: by BPF, or by tracepoints alone."""

    @property
    def knows_copies(self) -> bool:
        """Whether it need not be the very packet that was seen on a link."""

    @property
    def lost(self) -> bool:
        """Whether the kernel had more to tell than could be taken in."""

    def fileno(self) -> int:
        """Readable when there is something to drain."""

    def drain(self) -> frozenset[int]:
        """Take in what has come; the numbers of the probes known to be dropped so far."""

    def drops(self, number: int, sightings: Sequence[Sighting]) -> tuple[KernelDrop, ...]:
        """Those of one probe that were drained, in the order of time."""

    def close(self) -> None:
        """Stop watching."""


class Gathering:
    """The sources that could be had."""

    def __init__(
        self,
        count: int,
        drops: Drops | None,
        stacks: list[StackWatch],
        missed: list[Unavailable],
    ) -> None:
        self._count = count
        self._drops = drops
        self._stacks = stacks
        self._missed = missed

    @property
    def polled(self) -> int | None:
        """A descriptor that is readable when ``dropped`` has grown; ``None``: it never does."""
        return None if self._drops is None else self._drops.fileno()

    @property
    def knows_copies(self) -> bool:
        """False when a promiscuous bridge would hide the packet that is dropped."""
        return self._drops is None or self._drops.knows_copies

    def dropped(self) -> frozenset[int]:
        """The probes of which the kernel has dropped one copy at least."""
        return frozenset() if self._drops is None else self._drops.drain()

    def evidence(self, sightings: Sequence[Sequence[Sighting]]) -> tuple[Evidence, ...]:
        """What has been said so far of each probe, which was seen like that."""
        missed = list(self._missed)
        for watch in self._stacks:
            watch.finish()
            missed += watch.unavailable
        if self._drops is not None:
            self._drops.drain()
            if self._drops.lost:
                why = "the kernel dropped more than could be taken in"
                missed.append(Unavailable(source="drop reasons", why=why))
        waiting = tuple(one for watch in self._stacks for one in watch.waiting)
        changes = tuple(one for watch in self._stacks for one in watch.changes())
        return tuple(
            Evidence(
                verdicts=tuple(one for watch in self._stacks for one in watch.verdicts(number)),
                drops=() if self._drops is None else self._drops.drops(number, sightings[number]),
                changes=changes,
                waiting=waiting,
                unavailable=tuple(missed),
            )
            for number in range(self._count)
        )


@contextmanager
def gathering(snapshot: Snapshot, walk: Walk, probes: Sequence[Probe]) -> Iterator[Gathering]:
    """Watch probes in the stacks of the predicted way, and their drops everywhere.

    Nothing is raised for a source that is not to be had: the evidence names it.
    """
    missed: list[Unavailable] = []
    drops: Drops | None = None
    watches: list[StackWatch] = []
    try:
        drops = _drop_watch(snapshot, walk, probes, missed)
        for stack in _on_path(snapshot, walk):
            try:
                watches.append(StackWatch(stack, probes))
            except NotReadableError as error:
                why = str(error)
                missed.append(Unavailable(source="rule verdicts", why=why, stack=stack.name))
        yield Gathering(len(probes), drops, watches, missed)
    finally:
        # The kernel waits for all processors before it forgets a table: all at once, then.
        with ThreadPoolExecutor(max_workers=MOST_STACKS) as pool:
            if drops is not None:
                pool.submit(drops.close)
            for watch in watches:
                pool.submit(watch.close)


def _drop_watch(
    snapshot: Snapshot, walk: Walk, probes: Sequence[Probe], missed: list[Unavailable]
) -> Drops | None:
    """By BPF, else by tracepoints; what is not to be had goes to ``missed``."""
    source = walk.question.source.stack
    try:
        return DropWatch(snapshot, probes, source)
    except (OSError, ValueError, KeyError) as error:
        why = _words(error)
    try:
        found = PerfDropWatch(snapshot, probes, source)
    except (OSError, ValueError, KeyError) as error:
        why = f"{why}; nor by tracepoints: {_words(error)}"
        missed.append(Unavailable(source="drop reasons", why=why))
        return None
    why = f"{why}; drop reasons come from the tracepoints instead"
    missed.append(Unavailable(source="BPF", why=why))
    return found


def _on_path(snapshot: Snapshot, walk: Walk) -> list[Stack]:
    names = dict.fromkeys(hop.stack for hop in walk.hops)
    known = {stack.name: stack for stack in snapshot.stacks if stack.netns is not None}
    return [known[name] for name in names if name in known][:MOST_STACKS]


def _words(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "not allowed: it takes CAP_BPF and CAP_PERFMON, or root (sudo)"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return f"this kernel is not known well enough: {error}"
