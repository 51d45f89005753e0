"""The terminal: colours when it is one and nobody minds, and a sign of life while waiting."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from kvmdiag.commands.options import Options

# A wait shorter than this (seconds) needs no explanation.
PATIENCE = 0.3

# Columns of what is not shown on a terminal: a pipe or a file.
FILE_WIDTH = 120
# Columns of a terminal that does not tell.
TERMINAL_WIDTH = 80


def wants_color(options: Options) -> bool:
    """False with ``--no-color`` and with a non-empty ``NO_COLOR`` (https://no-color.org)."""
    return not options.no_color and not os.environ.get("NO_COLOR")


def console(options: Options, *, stderr: bool = False) -> Console:
    """A rich console on standard output or error.

    Emoji names, markup and highlighting are off: what is printed comes from guests and files.
    """
    from rich.console import Console

    class Plain(Console):
        def on_broken_pipe(self) -> None:
            """Let the command end as it does when anything else cannot be written."""
            raise BrokenPipeError

    return Plain(
        stderr=stderr,
        width=_columns(sys.stderr if stderr else sys.stdout),
        no_color=not wants_color(options),
        force_terminal=None if wants_color(options) else False,
        emoji=False,
        markup=False,
        highlight=False,
        soft_wrap=False,
    )


def _columns(stream: TextIO) -> int:
    """As ``COLUMNS`` says, as the terminal has, or enough for a file.

    Neither may be believed when it says 0, as serial consoles do.
    """
    said = os.environ.get("COLUMNS", "")
    if said.isdecimal() and int(said):
        return int(said)
    if not stream.isatty():
        return FILE_WIDTH
    return os.get_terminal_size(stream.fileno()).columns or TERMINAL_WIDTH


def emit(content: RenderableType, options: Options) -> None:
    """Print a report, or write it to the file the user named.

    Text that is finished (JSON, XML, dot) is written as it is; anything else is laid out by
    rich for the width of the terminal.
    """
    if options.output is not None:
        from kvmdiag.commands.files import write

        write(options.output, content if isinstance(content, str) else _plain(content))
    elif isinstance(content, str):
        sys.stdout.buffer.write(content.encode("utf-8", "backslashreplace"))
        sys.stdout.flush()
    else:
        console(options).print(content, crop=False)


def _plain(content: RenderableType) -> str:
    """The content laid out for a file, without colours."""
    import io

    from rich.console import Console

    buffer = io.StringIO()
    Console(
        file=buffer, width=100, no_color=True, emoji=False, markup=False, highlight=False
    ).print(content, crop=False)
    return buffer.getvalue()


@contextmanager
def progress(what: str, options: Options) -> Iterator[Callable[[str], None]]:
    """Show what is going on, on a terminal's standard error, when it takes a while.

    The body may say what it has come to by calling what it is given.
    """
    if not sys.stderr.isatty() or options.quiet:
        yield lambda _: None
        return
    from rich.markup import escape
    from rich.status import Status

    from kvmdiag.reports.escape import one_line

    status = Status(f"{what} ...", console=console(options, stderr=True))
    timer = threading.Timer(PATIENCE, status.start)
    timer.daemon = True
    timer.start()
    try:
        yield lambda now: status.update(f"{escape(one_line(now))} ...")
    finally:
        timer.cancel()
        timer.join()
        status.stop()
