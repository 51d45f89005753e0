"""Captures in all stacks that can be watched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import msgspec

from kvmdiag.errors import NotReadableError
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack
from kvmdiag.probes.capture import Capture

MOST_STACKS = 256
_MOST_BRIDGES = 16
_CLOSED_AT_ONCE = 16


class Captures(msgspec.Struct, frozen=True, kw_only=True):
    """The open captures; ``blind`` tells of each stack without one why."""

    opened: tuple[Capture, ...]
    blind: tuple[tuple[str, str], ...]

    @property
    def watched(self) -> frozenset[str]:
        """The stacks in which a capture runs."""
        return frozenset(capture.stack for capture in self.opened)


def open_captures(
    snapshot: Snapshot,
    opened: ExitStack,
    code: bytes,
    *,
    first: Iterable[str] = (),
    marks: Sequence[bytes] = (),
    bridges: Callable[[Stack], Iterable[int]] | None = None,
) -> Captures:
    """A capture with this filter in each stack, ``first`` in those that must not be missed.

    ``marks``: see ``Capture``.

    Raises:
        NotReadableError: not a single one can be opened.

    """
    rank = {name: place for place, name in reversed(list(enumerate(first)))}
    stacks = sorted(snapshot.stacks, key=lambda stack: rank.get(stack.name, len(rank)))
    captures: list[Capture] = []
    blind: list[tuple[str, str]] = []
    opened.callback(_close, captures)
    for stack in stacks:
        if len(captures) >= MOST_STACKS:
            blind.append((stack.name, f"only {MOST_STACKS} stacks are watched at once"))
            continue
        wanted = list((bridges or all_bridges)(stack))[:_MOST_BRIDGES]
        try:
            capture = Capture(stack, code, wanted, marks)
        except NotReadableError as error:
            blind.append((stack.name, str(error)))
            continue
        captures.append(capture)
    if not captures:
        raise NotReadableError(blind[0][1] if blind else "there is no stack to capture in")
    return Captures(opened=tuple(captures), blind=tuple(blind))


def _close(captures: Sequence[Capture]) -> None:
    """All at once: for each the kernel waits until no processor uses it any more (20 ms)."""
    with ThreadPoolExecutor(max_workers=_CLOSED_AT_ONCE) as pool:
        for capture in captures:
            pool.submit(capture.close)


def all_bridges(stack: Stack) -> Iterable[int]:
    """The index of each bridge of the stack."""
    return [link.index for link in stack.links or () if link.bridge]
