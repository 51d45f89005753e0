"""The kernel's evidence of a probe, made ready for the reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvmdiag.model.trace import Walk
    from kvmdiag.probes.evidence.facts import Evidence
    from kvmdiag.reports.kernel_notes import KernelNotes


def kernel_notes(evidence: Evidence | None, predicted: Walk, fused: Walk) -> KernelNotes | None:
    """All of it, and where it parts from the prediction; ``None`` when the kernel was not asked."""
    from kvmdiag.probes.disagreement import divergence
    from kvmdiag.reports.kernel_notes import CounterNote, KernelNotes, MissingNote, RuleNote

    if evidence is None:
        return None
    parted = divergence(predicted, fused)
    return KernelNotes(
        rules=tuple(
            RuleNote(direction=one.direction, rule=one.rule, verdict=one.verdict)
            for one in evidence.verdicts
        ),
        counters=tuple(
            CounterNote(
                stack=one.stack,
                counter=one.what if one.rule is None else f"{one.rule.text} ({one.rule})",
                by=one.by,
            )
            for one in evidence.changes
        ),
        missing=tuple(
            MissingNote(source=one.source, stack=one.stack, why=one.why)
            for one in evidence.unavailable
        ),
        diverged_at=None if parted is None else str(parted.place),
    )
