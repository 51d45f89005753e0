"""What a comparison of two snapshots says, in sentences that all its formats share."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from kvmdiag.model.comparison import Change, Comparison, Effect, PathChange, PathFate
from kvmdiag.reports import words

# The effects that are told, the worst first, and how the section about them is called.
TITLES: dict[Effect, str] = {
    "broken": "Broken",
    "unclear": "Cannot be told any more",
    "otherwise": "Fail otherwise than before",
    "cured": "Cured",
}


def summary(comparison: Comparison) -> str:
    """The answer in one line."""
    parts = [words.count(len(comparison.changes), "change") if comparison.changes else "no change"]
    told: dict[Effect, str] = {"broken": "broken", "unclear": "unclear", "cured": "cured"}
    for effect, word in told.items():
        paths = comparison.having(effect)
        if paths:
            parts.append(f"{words.count(len(paths), 'path')} {word}")
    if len(parts) == 1:
        judged = words.count(len(comparison.paths), "path")
        parts.append(f"{judged} judged, and none fares otherwise")
    return ", ".join(parts)


def fate(path: PathChange) -> str:
    """How a path fared before and fares now."""
    because = f" ({', '.join(path.causes)})" if path.causes else ""
    if path.effect in ("cured", "otherwise"):
        return f"{_told(path.after)}{because}; before, {_told(path.before)}"
    return f"{_told(path.after)}{because}"


def _told(how: PathFate) -> str:
    if how.walk is None:
        return how.why
    return words.success(how.walk) if how.works else words.ending(how.walk.decisive)


def by_stack(comparison: Comparison) -> Iterator[tuple[str, list[Change]]]:
    """The changes of each stack, under its name."""
    for stack, changes in groupby(comparison.changes, key=lambda change: change.stack):
        yield stack or "snapshot", list(changes)
