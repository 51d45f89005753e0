"""Lines of text with indents: prose wraps with a hanging indent, commands never wrap.

A command that is broken into lines by the program cannot be copied; one that the terminal
itself breaks can.
"""

from __future__ import annotations

from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.text import Text

from kvmdiag.reports.escape import safe

# Below this many columns a hanging indent costs more than it gives.
_NARROWEST = 16


class Lines:
    """A growing list of lines, printable by rich."""

    def __init__(self) -> None:
        self._lines: list[tuple[str | Text, Text, str, bool]] = []

    def blank(self) -> None:
        """An empty line, unless it would be the first or the second in a row."""
        if self._lines and self._lines[-1][1].plain:
            self._lines.append(("", Text(), "", True))

    def prose(
        self, *parts: str | tuple[str, str], indent: int = 0, lead: str | tuple[str, str] = ""
    ) -> None:
        """Parts, as text or as (text, style), that wrap under one another after ``lead``."""
        first = Text(" " * indent) + styled(lead)
        text = Text().join(styled(part) for part in parts)
        self._lines.append((first, text, " " * first.cell_len, True))

    def verbatim(
        self, text: str, style: str = "", *, indent: int = 0, lead: str | tuple[str, str] = ""
    ) -> None:
        """A line that is never broken."""
        first = Text(" " * indent) + styled(lead)
        self._lines.append((first, styled((text, style)), "", False))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for first, text, rest, wraps in self._lines:
            room = options.max_width - len(rest)
            lines = (
                list(text.wrap(console, room, tab_size=8))
                if wraps and room >= _NARROWEST
                else [text]
            )
            for number, line in enumerate(lines):
                line.rstrip()
                margin = first if number == 0 else rest
                yield from _segments(Text.assemble(margin, line), console)
                yield Segment.line()


def _segments(text: Text, console: Console) -> list[Segment]:
    return list(text.render(console, end=""))


def styled(part: str | tuple[str, str]) -> Text:
    """A piece of text, made safe, in its style."""
    words, style = part if isinstance(part, tuple) else (part, "")
    return Text(safe(words), style=style)
