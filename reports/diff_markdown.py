"""A comparison for a ticket or a chat: Markdown with nothing in it that formats by accident."""

from __future__ import annotations

import re

from kvmdiag.model.comparison import Comparison
from kvmdiag.reports import words
from kvmdiag.reports.diff_words import TITLES, by_stack, fate, summary
from kvmdiag.reports.escape import one_line

# What CommonMark gives a meaning to within a line, and what HTML does.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&!])")


def render(comparison: Comparison) -> str:
    """The whole comparison."""
    lines = [f"**{_plain(summary(comparison))}**"]
    for effect, title in TITLES.items():
        paths = comparison.having(effect)
        if paths:
            lines += ["", f"### {title}", ""]
        for path in paths:
            lines.append(f"- **{_plain(words.path(path.question))}**: {_plain(fate(path))}")
    for stack, changes in by_stack(comparison):
        lines += ["", f"### {_plain(stack)}", ""]
        lines += [f"- {change.kind}: {_plain(change.text)}" for change in changes]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", one_line(text))
