"""What a report tells of the kernel's own account of a probe: plain data, made by the command."""

from __future__ import annotations

import msgspec

from kvmdiag.model.packet import Direction
from kvmdiag.model.trace import RuleRef


class RuleNote(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule said of the packet; ``verdict`` in nft's words."""

    direction: Direction
    rule: RuleRef
    verdict: str | None


class CounterNote(msgspec.Struct, frozen=True, kw_only=True):
    """A counter that grew meanwhile; others' packets count too."""

    stack: str
    counter: str
    by: int


class MissingNote(msgspec.Struct, frozen=True, kw_only=True):
    """A source of evidence that is not to be had; ``stack`` is ``None`` for all."""

    source: str
    stack: str | None
    why: str


class KernelNotes(msgspec.Struct, frozen=True, kw_only=True):
    """Rules in the order they were met in each stack, counters, and what is missing.

    ``diverged_at`` is the place where prediction and observation part.
    """

    rules: tuple[RuleNote, ...] = ()
    counters: tuple[CounterNote, ...] = ()
    missing: tuple[MissingNote, ...] = ()
    diverged_at: str | None = None
