"""What comes of a probe: prediction and observation in one, its exit code, its capture file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kvmdiag.commands.options import Options

if TYPE_CHECKING:
    from rich.console import RenderableType

    from kvmdiag.model.snapshot import Snapshot
    from kvmdiag.model.trace import Walk
    from kvmdiag.probes.observation import Observation
    from kvmdiag.reports.probe_notes import ProbeNotes

REACHED, NOT_REACHED, INCONCLUSIVE = 0, 1, 3


def exit_code(way: Walk, notes: ProbeNotes | None) -> int:
    """By what was observed; an answer that may be another's proves nothing."""
    if notes is not None and notes.doubt is not None:
        return INCONCLUSIVE
    return {True: REACHED, False: NOT_REACHED, None: INCONCLUSIVE}[way.works]


def keep(file: Path, snapshot: Snapshot, probes: Sequence[tuple[Walk, Observation]]) -> None:
    """Write the capture file of probes, each with its fused walk.

    Raises:
        InputError: it cannot be written.

    """
    from kvmdiag.commands.files import write
    from kvmdiag.probes.pcap import pcapng

    write(file, pcapng(snapshot, probes))


def fused_with(predicted: Walk, seen: Observation) -> tuple[Walk, ProbeNotes]:
    """Prediction and observation in one, and how it ended."""
    from kvmdiag.commands.kernel import kernel_notes
    from kvmdiag.probes.disagreement import disagreement, likeliest
    from kvmdiag.probes.fuse import fuse
    from kvmdiag.reports.probe_notes import ProbeNotes

    predicted = likeliest(predicted, seen)
    fused = fuse(predicted, seen)
    return fused, ProbeNotes(
        reached=seen.reached,
        answer=None if seen.answer is None else seen.answer.text,
        waited=seen.waited,
        disagreement=disagreement(predicted, fused),
        kernel=kernel_notes(seen.evidence, predicted, fused),
        unwatched=seen.blind,
        truncated=seen.truncated,
        remarks=seen.remarks,
        insiders=seen.insiders,
        doubt=seen.doubt,
    )


def rendered(
    way: Walk, notes: ProbeNotes | None, options: Options, *, unprobed: str | None = None
) -> RenderableType:
    """The trace in the format the user chose; ``unprobed`` is why no probe could be sent."""
    if options.format == "json":
        from kvmdiag.reports import trace_json

        return trace_json.render_trace(way, notes=notes, unprobed=unprobed)
    from kvmdiag.reports import trace_text

    if options.quiet:
        return trace_text.render_verdict(way, notes=notes, unprobed=unprobed)
    return trace_text.render_trace(way, verbose=options.verbose, notes=notes, unprobed=unprobed)
