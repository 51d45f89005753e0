"""``kvmdiag diff``: what changed between two snapshots, and which paths that breaks or cures."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvmdiag.commands.options import OUTPUT, Options, takes

if TYPE_CHECKING:
    from rich.console import RenderableType

    from kvmdiag.model.comparison import Comparison

app = typer.Typer()

FINE, BROKEN, INCONCLUSIVE = 0, 1, 3


@app.command()
@takes(("format", *OUTPUT), formats=("text", "json", "markdown"))
def diff(
    before: Annotated[Path, typer.Argument(metavar="A", help="The snapshot of before.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="The snapshot of after.")],
    *,
    options: Options,
) -> int:
    """Tell what changed from snapshot A to snapshot B, and which paths that breaks or cures.

    The exit code is 1 when a path that worked in A does not work in B, 3 when whether one
    still works cannot be told, else 0, however much has changed.
    """
    from kvmdiag.commands.files import read_snapshot
    from kvmdiag.commands.terminal import emit
    from kvmdiag.diagnose.check import load_checks
    from kvmdiag.diagnose.compare import compare

    comparison = compare(read_snapshot(before), read_snapshot(after), load_checks())
    emit(rendered(comparison, options), options)
    if comparison.having("broken"):
        return BROKEN
    return INCONCLUSIVE if comparison.having("unclear") else FINE


def rendered(comparison: Comparison, options: Options) -> RenderableType:
    """The comparison in the format the user chose."""
    renderer = import_module(f"kvmdiag.reports.diff_{options.format}")
    if options.quiet and options.format == "text":
        line: RenderableType = renderer.render_verdict(comparison)
        return line
    whole: RenderableType = renderer.render(comparison)
    return whole
