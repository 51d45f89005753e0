"""What could not be read, told beside what was made of the rest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvmdiag.commands.options import Options
    from kvmdiag.model.snapshot import Gap


def tell_unread(gaps: Iterable[Gap], options: Options, heading: str = "") -> None:
    """The heading and a line for each gap on standard error, unless quiet."""
    from kvmdiag.commands.terminal import console
    from kvmdiag.reports.layout import Lines

    if options.quiet:
        return
    lines, gaps = Lines(), tuple(gaps)
    if not heading and not gaps:
        return
    if heading:
        lines.prose(heading)
    for gap in gaps:
        place = f" of {gap.stack}" if gap.stack else ""
        lines.prose(f"not read: {gap.fact}{place}: {gap.why}; {gap.help}", indent=2, lead="· ")
    console(options, stderr=True).print(lines, crop=False)
