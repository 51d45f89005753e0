"""A comparison for a person at a terminal: paths first, then what changed, stack by stack."""

from __future__ import annotations

from rich.console import RenderableType

from kvmdiag.model.comparison import ChangeKind, Comparison, Effect
from kvmdiag.reports import words
from kvmdiag.reports.diff_words import TITLES, by_stack, fate, summary
from kvmdiag.reports.layout import Lines

_MARKS: dict[Effect, tuple[str, str]] = {
    "broken": ("✗ ", "bold red"),
    "unclear": ("? ", "bold yellow"),
    "otherwise": ("· ", "dim"),
    "cured": ("✓ ", "bold green"),
}
_SIGNS: dict[ChangeKind, tuple[str, str]] = {
    "new": ("+ ", "green"),
    "gone": ("- ", "red"),
    "changed": ("~ ", "yellow"),
    "moved": ("~ ", "yellow"),
}


def render(comparison: Comparison) -> RenderableType:
    """The whole comparison."""
    lines = Lines()
    lines.prose((summary(comparison), "bold"), lead=_mark(comparison))
    for effect, title in TITLES.items():
        paths = comparison.having(effect)
        if not paths:
            continue
        lines.blank()
        lines.prose((title, "bold"))
        for path in paths:
            name = (words.path(path.question), "bold")
            lines.prose(name, f": {fate(path)}", indent=2, lead=_MARKS[effect])
    for stack, changes in by_stack(comparison):
        lines.blank()
        lines.prose((stack, "bold"))
        for change in changes:
            lines.prose(change.text, indent=2, lead=_SIGNS[change.kind])
    return lines


def render_verdict(comparison: Comparison) -> RenderableType:
    """The first line alone."""
    lines = Lines()
    lines.verbatim(summary(comparison), "bold", lead=_mark(comparison))
    return lines


def _mark(comparison: Comparison) -> tuple[str, str]:
    for effect in ("broken", "unclear"):
        if comparison.having(effect):
            return _MARKS[effect]
    return _MARKS["cured"]
