"""What changed from one snapshot to another, and what that does to paths."""

from __future__ import annotations

from typing import Literal

import msgspec

from kvmdiag.model.question import Question
from kvmdiag.model.trace import Walk

ChangeKind = Literal["new", "gone", "changed", "moved"]
Effect = Literal["broken", "cured", "unclear", "otherwise", "unchanged"]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One difference. ``text`` says it in words; ``stack`` is ``None`` for what is no stack's.

    ``before`` and ``after`` are the values as text, where it is a value that changed.
    """

    stack: str | None
    kind: ChangeKind
    subject: str
    text: str
    before: str | None = None
    after: str | None = None


class PathFate(msgspec.Struct, frozen=True, kw_only=True):
    """How a path fares in one of the snapshots.

    ``walk`` is ``None`` when the path cannot even be asked about there; ``why`` says so then.
    """

    works: bool | None
    walk: Walk | None = None
    why: str = ""


class PathChange(msgspec.Struct, frozen=True, kw_only=True):
    """A path that is meant to work in one of the snapshots, in both.

    ``causes`` are the checks that explain why it fails now. ``effect`` is one of

    broken     it worked, and does not any more
    cured      it did not work, and does now
    unclear    it worked, and now it cannot be told
    otherwise  it worked in neither, for another reason or at another place
    unchanged  it fares as before
    """

    question: Question
    effect: Effect
    before: PathFate
    after: PathFate
    causes: tuple[str, ...] = ()


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that differs, stack by stack, and every path that was judged."""

    changes: tuple[Change, ...] = ()
    paths: tuple[PathChange, ...] = ()

    def having(self, effect: Effect) -> tuple[PathChange, ...]:
        """The paths with that effect."""
        return tuple(path for path in self.paths if path.effect == effect)
