"""``kvmdiag trace``: the predicted way of a packet beside the way of a real one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kvmdiag.commands.options import OUTPUT, QUESTION, SOURCE, Options, facts, question, takes

if TYPE_CHECKING:
    from rich.console import RenderableType

    from kvmdiag.model.snapshot import Snapshot
    from kvmdiag.model.trace import Walk
    from kvmdiag.reports.probe_notes import ProbeNotes

app = typer.Typer()

REACHED, NOT_REACHED, INCONCLUSIVE = 0, 1, 3


@app.command()
@takes((*SOURCE, *QUESTION, "format", *OUTPUT), formats=("text", "json"))
def trace(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC",
            help="A guest, a guest's NIC (node1:ens6), host, a namespace, an address or a name.",
        ),
    ],
    destination: Annotated[
        str, typer.Argument(metavar="DST", help="The same, or anything outside.")
    ],
    *,
    no_probe: Annotated[
        bool, typer.Option("--no-probe", help="Predict only; send nothing.")
    ] = False,
    options: Options,
) -> int:
    """Follow a packet hop by hop, predicted and observed.

    One probe is sent from inside SRC and watched at every link. With --snapshot nothing is sent.
    """
    from kvmdiag.commands.terminal import emit
    from kvmdiag.simulate.walk import walk

    snapshot = facts(options)
    way = walk(snapshot, question(snapshot, source, destination, options))
    notes = None
    if not no_probe and options.snapshot is None:
        way, notes = probed(snapshot, way, options.timeout)
    emit(rendered(way, notes, options), options)
    return {True: REACHED, False: NOT_REACHED, None: INCONCLUSIVE}[way.works]


def probed(snapshot: Snapshot, predicted: Walk, timeout: float) -> tuple[Walk, ProbeNotes]:
    """Send a probe; the walk with what was seen of it, and how it ended.

    Raises:
        NotReadableError: the source cannot be entered, or capturing is not allowed.

    """
    from kvmdiag.probes.fuse import disagreement
    from kvmdiag.probes.trace import fuse, observe
    from kvmdiag.reports.probe_notes import ProbeNotes

    seen = observe(snapshot, predicted, timeout=timeout)
    fused = fuse(predicted, seen)
    return fused, ProbeNotes(
        reached=seen.reached,
        answer=None if seen.answer is None else seen.answer.text,
        waited=seen.waited,
        disagreement=disagreement(predicted, fused),
        unwatched=seen.blind,
        truncated=seen.truncated,
    )


def rendered(way: Walk, notes: ProbeNotes | None, options: Options) -> RenderableType:
    """The trace in the format the user chose."""
    if options.format == "json":
        from kvmdiag.reports import trace_json

        return trace_json.render_trace(way, notes=notes)
    from kvmdiag.reports import trace_text

    if options.quiet:
        return trace_text.render_verdict(way, notes=notes)
    return trace_text.render_trace(way, verbose=options.verbose, notes=notes)
