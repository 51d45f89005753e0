"""A comparison for a ticket or a chat: Markdown with nothing in it that formats by accident."""

from __future__ import annotations

from kvmdiag.model.comparison import Comparison
from kvmdiag.reports import words
from kvmdiag.reports.diff_words import TITLES, by_stack, fate, summary
from kvmdiag.reports.escape import markdown_safe


def render(comparison: Comparison) -> str:
    """The whole comparison."""
    lines = [f"**{markdown_safe(summary(comparison))}**"]
    for effect, title in TITLES.items():
        paths = comparison.having(effect)
        if paths:
            lines += ["", f"### {title}", ""]
        for path in paths:
            lines.append(
                f"- **{markdown_safe(words.path(path.question))}**: {markdown_safe(fate(path))}"
            )
    for stack, changes in by_stack(comparison):
        lines += ["", f"### {markdown_safe(stack)}", ""]
        lines += [f"- {change.kind}: {markdown_safe(change.text)}" for change in changes]
    return "\n".join(lines) + "\n"
