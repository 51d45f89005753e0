"""``kvmdiag graph``: the topology as a picture."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import typer

from kvmdiag.commands.facts import facts
from kvmdiag.commands.options import OUTPUT, SOURCE, Options, takes
from kvmdiag.commands.unread import tell_unread
from kvmdiag.errors import InputError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from kvmdiag.model.snapshot import Snapshot

app = typer.Typer()

FORMATS = ("text", "dot", "mermaid", "svg", "json")

_PATIENCE = 60
"""Seconds for Graphviz to place the nodes of a large host."""


@app.command()
@takes((*SOURCE, "format", *OUTPUT), formats=FORMATS)
def graph(*, options: Options) -> int:
    """Draw stacks, links, bridges, taps, cables, NAT and uplinks.

    What could not be read, and so is not in the picture, is told on standard error.

    For a picture: kvmdiag graph --format svg -o network.svg
    """
    from kvmdiag.commands.terminal import emit

    snapshot = facts(options)
    emit(rendered(snapshot, options), options)
    tell_unread((gap for gap in snapshot.gaps if not gap.expected), options)
    return 0


def rendered(snapshot: Snapshot, options: Options) -> RenderableType:
    """The graph in the format the user chose."""
    from kvmdiag.topology.build import build

    topology = build(snapshot)
    if options.format == "svg":
        from kvmdiag.reports import graph_dot

        return _laid_out(graph_dot.render(topology, verbose=options.verbose))
    renderer = import_module(f"kvmdiag.reports.graph_{options.format}")
    drawn: RenderableType = renderer.render(topology, verbose=options.verbose)
    return drawn


def _laid_out(dot: str) -> str:
    """The SVG that Graphviz makes of it (dot(1))."""
    from kvmdiag.system.programs import ProgramMissing, run

    try:
        drawn = run(["dot", "-Tsvg"], timeout=_PATIENCE, input=dot)
    except ProgramMissing:
        raise InputError(
            "--format svg is drawn by Graphviz, which is not installed: install the package"
            " graphviz, or ask for --format mermaid"
        ) from None
    if drawn.returncode:
        complaint = (drawn.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise InputError(f"Graphviz cannot draw this network: {complaint}")
    return drawn.stdout
