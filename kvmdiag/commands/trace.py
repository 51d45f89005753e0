"""``kvmdiag trace``: the predicted way of a packet beside the way of a real one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from kvmdiag.commands.options import OUTPUT, QUESTION, SOURCE, Options, facts, question, takes
from kvmdiag.errors import UsageError

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
    tcp: Annotated[
        int | None, typer.Option(metavar="PORT", min=1, max=65535, help="A TCP connection to PORT.")
    ] = None,
    udp: Annotated[
        int | None, typer.Option(metavar="PORT", min=1, max=65535, help="A UDP datagram to PORT.")
    ] = None,
    on_tap: Annotated[
        bool,
        typer.Option(
            "--on-tap", help="Send on SRC's tap, as if SRC had; done anyway if it has no way in."
        ),
    ] = False,
    options: Options,
) -> int:
    """Follow a packet hop by hop, predicted and observed.

    One probe is sent from inside SRC and watched at every link. With --snapshot nothing is sent.
    """
    from kvmdiag.commands.terminal import emit
    from kvmdiag.simulate.walk import walk

    options = with_port(options, tcp, udp)
    snapshot = facts(options)
    way = walk(snapshot, question(snapshot, source, destination, options))
    notes = None
    if not no_probe and options.snapshot is None:
        way, notes = probed(snapshot, way, options.timeout, on_tap=on_tap)
    emit(rendered(way, notes, options), options)
    return exit_code(way, notes)


def exit_code(way: Walk, notes: ProbeNotes | None) -> int:
    """By what was observed; an answer that may be another's proves nothing."""
    if notes is not None and notes.doubt is not None:
        return INCONCLUSIVE
    return {True: REACHED, False: NOT_REACHED, None: INCONCLUSIVE}[way.works]


def with_port(options: Options, tcp: int | None, udp: int | None) -> Options:
    """``--tcp PORT`` and ``--udp PORT`` as what they are short for.

    Raises:
        UsageError: more than one protocol was asked for.

    """
    if tcp is None and udp is None:
        return options
    if (tcp is not None and udp is not None) or options.port is not None:
        raise UsageError("one of --tcp PORT, --udp PORT and --proto with --port; not several")
    if tcp is not None:
        return dataclasses.replace(options, proto="tcp", port=tcp)
    return dataclasses.replace(options, proto="udp", port=udp)


def probed(
    snapshot: Snapshot, predicted: Walk, timeout: float, *, on_tap: bool = False
) -> tuple[Walk, ProbeNotes]:
    """Send a probe; the walk with what was seen of it, and how it ended.

    Raises:
        NotReadableError: the source cannot be entered, or capturing is not allowed.

    """
    from kvmdiag.commands.kernel import kernel_notes
    from kvmdiag.probes.fuse import disagreement
    from kvmdiag.probes.trace import fuse, observe
    from kvmdiag.reports.probe_notes import ProbeNotes

    seen = observe(snapshot, predicted, timeout=timeout, on_tap=on_tap)
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
        doubt=seen.doubt,
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
