"""``kvmdiag snapshot``: save all facts to one file."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from kvmdiag.commands.facts import question, read_facts
from kvmdiag.commands.flows import flows_of
from kvmdiag.commands.options import OUTPUT, QUESTION, SOURCE, Options, takes
from kvmdiag.commands.unread import tell_unread
from kvmdiag.errors import UsageError

if TYPE_CHECKING:
    from kvmdiag.model.snapshot import Snapshot

app = typer.Typer()


@app.command()
@takes((*SOURCE, *QUESTION, *OUTPUT))
def snapshot(
    source: Annotated[
        str | None,
        typer.Argument(metavar="SRC", help="Where a path begins.", show_default=False),
    ] = None,
    destination: Annotated[
        str | None, typer.Argument(metavar="DST", help="Where it ends.", show_default=False)
    ] = None,
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

    With SRC and DST the connections that are tracked on that path are saved as well.

    Without -o the file goes to standard output, unless that is a terminal. With --snapshot FILE
    --redact a file that was saved before is redacted.
    """
    from kvmdiag.commands.files import write
    from kvmdiag.model.codec import save

    if options.output is None and sys.stdout.isatty():
        raise UsageError("a snapshot is no sight for a terminal; name a file with -o FILE")
    taken = _taken(source, destination, options)
    if redact:
        from kvmdiag.model.redact.snapshot import redact as redacted

        taken = redacted(taken)
    data = save(taken)
    if options.output is None:
        sys.stdout.buffer.write(data)
    else:
        write(options.output, data)
    tell_unread(taken.gaps, options, _heading(taken, len(data), options))
    return 0


def _taken(source: str | None, destination: str | None, options: Options) -> Snapshot:
    """The facts, and the connections of a path that was named."""
    if source is None:
        return read_facts(options)
    if destination is None:
        raise UsageError(f"a path has two ends: {source} and which other?")
    if options.snapshot is not None:
        raise UsageError("a file has the connections that were saved with it; SRC and DST go live")
    from kvmdiag.simulate.facts.unseen import assume_guests

    taken = read_facts(options)
    assumed = assume_guests(taken)
    asked = question(assumed, source, destination, options)
    return flows_of(taken, assumed, asked, options)


def _heading(taken: Snapshot, size: int, options: Options) -> str:
    """What was saved, and where."""
    from kvmdiag.reports.words import count

    where = options.output or "standard output"
    links = sum(len(stack.links or ()) for stack in taken.stacks)
    return (
        f"{count(len(taken.stacks), 'stack')} with {count(links, 'link')} saved to {where}"
        f" ({max(size // 1024, 1)} KiB)"
    )
