"""``kvmdiag snapshot``: save all facts to one file."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from kvmdiag.commands.options import OUTPUT, SOURCE, Options, read_facts, takes
from kvmdiag.errors import UsageError

if TYPE_CHECKING:
    from kvmdiag.model.snapshot import Snapshot

app = typer.Typer()


@app.command()
@takes((*SOURCE, *OUTPUT))
def snapshot(
    *,
    redact: Annotated[
        bool,
        typer.Option(
            "--redact",
            help="Replace addresses, MACs and names by stand-ins, so that it can be shown.",
        ),
    ] = False,
    options: Options,
) -> int:
    """Save all facts to one file, to be looked at anywhere with --snapshot FILE.

    Without -o the file goes to standard output, unless that is a terminal. With --snapshot FILE
    --redact a file that was saved before is redacted.
    """
    from kvmdiag.commands.files import write
    from kvmdiag.model.codec import save

    if options.output is None and sys.stdout.isatty():
        raise UsageError("a snapshot is no sight for a terminal; name a file with -o FILE")
    taken = read_facts(options)
    if redact:
        from kvmdiag.model.redact.snapshot import redact as redacted

        taken = redacted(taken)
    data = save(taken)
    if options.output is None:
        sys.stdout.buffer.write(data)
    else:
        write(options.output, data)
    if not options.quiet:
        _tell(taken, len(data), options)
    return 0


def _tell(taken: Snapshot, size: int, options: Options) -> None:
    """What was saved and what could not be read, on standard error."""
    from kvmdiag.commands.terminal import console
    from kvmdiag.reports.layout import Lines
    from kvmdiag.reports.words import count

    lines = Lines()
    where = options.output or "standard output"
    links = sum(len(stack.links or ()) for stack in taken.stacks)
    lines.prose(
        f"{count(len(taken.stacks), 'stack')} with {count(links, 'link')} saved to {where}"
        f" ({max(size // 1024, 1)} KiB)"
    )
    for gap in taken.gaps:
        place = f" of {gap.stack}" if gap.stack else ""
        lines.prose(f"not read: {gap.fact}{place}: {gap.why}; {gap.help}", indent=2, lead="· ")
    console(options, stderr=True).print(lines, crop=False)
