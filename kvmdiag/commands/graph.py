"""``kvmdiag graph``: the topology as a picture."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import typer

from kvmdiag.commands.options import OUTPUT, SOURCE, Options, facts, takes

if TYPE_CHECKING:
    from rich.console import RenderableType

    from kvmdiag.model.snapshot import Snapshot

app = typer.Typer()

FORMATS = ("text", "dot", "mermaid", "json")


@app.command()
@takes((*SOURCE, "format", *OUTPUT), formats=FORMATS)
def graph(*, options: Options) -> int:
    """Draw stacks, links, bridges, taps, cables, NAT and uplinks.

    For a picture: kvmdiag graph --format dot | dot -Tsvg -o network.svg
    """
    from kvmdiag.commands.terminal import emit

    emit(rendered(facts(options), options), options)
    return 0


def rendered(snapshot: Snapshot, options: Options) -> RenderableType:
    """The graph in the format the user chose."""
    from kvmdiag.topology.build import build

    renderer = import_module(f"kvmdiag.reports.graph_{options.format}")
    drawn: RenderableType = renderer.render(build(snapshot), verbose=options.verbose)
    return drawn
