"""The kernel's own account of a probe, as plain dicts and lists."""

from __future__ import annotations

from typing import Any

from kvmdiag.model.owner import owner_of
from kvmdiag.reports.kernel_notes import KernelNotes


def kernel_object(notes: KernelNotes) -> dict[str, Any]:
    """``probe.kernel`` of a trace."""
    return {
        "rules": [
            {
                "direction": note.direction,
                "stack": note.rule.stack,
                "rule": str(note.rule),
                "text": note.rule.text,
                "owner": owner_of(note.rule),
                "verdict": note.verdict,
            }
            for note in notes.rules
        ],
        "counters": [
            {"stack": count.stack, "counter": count.counter, "by": count.by}
            for count in notes.counters
        ],
        "not_available": [
            {"source": missing.source, "stack": missing.stack, "why": missing.why}
            for missing in notes.missing
        ],
        "diverged_at": notes.diverged_at,
    }
