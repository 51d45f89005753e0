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

from kvmdiag.errors import NotReadableError
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Walk
from kvmdiag.probes.evidence.drops import DropWatch
from kvmdiag.probes.evidence.facts import Evidence, Unavailable
from kvmdiag.probes.evidence.stack_watch import StackWatch
from kvmdiag.probes.packet import Probe

MOST_STACKS = 16
"""More stacks than this are on hardly any path."""


class Gathering:
    """The sources that could be had."""

    def __init__(
        self,
        count: int,
        drops: DropWatch | None,
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

    def dropped(self) -> frozenset[int]:
        """The probes of which the kernel has dropped one copy at least."""
        return frozenset() if self._drops is None else self._drops.drain()

    def evidence(self) -> tuple[Evidence, ...]:
        """What has been said so far of each probe."""
        missed = list(self._missed)
        for watch in self._stacks:
            watch.finish()
            missed += watch.unavailable
        if self._drops is not None:
            self._drops.drain()
        waiting = tuple(one for watch in self._stacks for one in watch.waiting)
        changes = tuple(one for watch in self._stacks for one in watch.changes())
        return tuple(
            Evidence(
                verdicts=tuple(one for watch in self._stacks for one in watch.verdicts(number)),
                drops=() if self._drops is None else self._drops.drops(number),
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
    drops: DropWatch | None = None
    watches: list[StackWatch] = []
    try:
        try:
            drops = DropWatch(snapshot, probes, walk.question.source.stack)
        except (OSError, ValueError, KeyError) as error:
            missed.append(Unavailable(source="drop reasons", why=_words(error)))
        for stack in _on_path(snapshot, walk):
            try:
                watches.append(StackWatch(stack, probes))
            except NotReadableError as error:
                why = str(error)
                missed.append(Unavailable(source="rule verdicts", why=why, stack=stack.name))
        yield Gathering(len(probes), drops, watches, missed)
    finally:
        if drops is not None:
            drops.close()
        # The kernel waits for all processors before it forgets a table: all at once, then.
        with ThreadPoolExecutor(max_workers=MOST_STACKS) as pool:
            for watch in watches:
                pool.submit(watch.close)


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
