"""The kernel's own account of a probe, in lines below the table."""

from __future__ import annotations

from kvmdiag.model.owner import owner_of
from kvmdiag.model.trace import RuleRef, Walk
from kvmdiag.reports.kernel_notes import KernelNotes
from kvmdiag.reports.layout import Lines


def account(lines: Lines, walk: Walk) -> None:
    """Why the packet ended, as the kernel says, and whose rule it was."""
    end = walk.decisive.end
    if walk.decisive.arrived:
        return
    if end.kernel_reason is not None:
        lines.prose(end.kernel_reason, lead=("kernel  ", "cyan"))
    if isinstance(end.decider, RuleRef):
        owner = owner_of(end.decider)
        if owner is not None:
            lines.prose(f"that rule is made by {owner}", lead=("owner  ", "cyan"))


def details(lines: Lines, notes: KernelNotes, verbose: int) -> None:
    """What is missing; with ``verbose`` rule after rule, and the counters."""
    if verbose:
        for note in notes.rules:
            arrow = "→" if note.direction == "request" else "←"
            said = f"{note.rule.text}: {note.verdict or 'matches'}"
            lines.prose(
                f"{note.rule.stack}: {said}  ({note.rule!s})",
                lead=(f"rule {arrow}  ", "dim"),
            )
        for count in notes.counters:
            lines.prose(f"{count.stack}: {count.counter} +{count.by}", lead=("counter  ", "dim"))
    for missing in notes.missing:
        where = f" in {missing.stack}" if missing.stack else ""
        lines.prose(f"{missing.source}{where}: {missing.why}", lead=("not available  ", "dim"))
