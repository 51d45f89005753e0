"""Making names and messages safe to print.

Names of links, guests and chains, comments of rules and what guests say are chosen by
others; a control character among them could redraw the terminal or break a file.
"""

from __future__ import annotations

import re

# What CommonMark gives a meaning to within a line, and what HTML does.
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~&!])")


def _escaped(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def safe(text: str) -> str:
    r"""The text with everything written out (``\x1b``) that Unicode does not call printable.

    That is controls, line breaks too; marks that turn the reading direction; lone surrogates;
    spaces other than the plain one; and what no version of Unicode known here has assigned.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def one_line(text: str) -> str:
    """The text in one line: white space, line breaks too, becomes single spaces."""
    return safe(" ".join(text.split()))


def xml_safe(text: str) -> str:
    """Safe text whose line breaks are kept; XML 1.0 can hold it (its section 2.2, ``Char``).

    ``<``, ``&`` and quotes are the XML writer's business.
    """
    return "\n".join(map(safe, text.split("\n")))


def markdown_safe(text: str) -> str:
    """One line of Markdown in which nothing formats by accident."""
    return _MARKDOWN.sub(r"\\\1", one_line(text))


def markdown_code(text: str) -> str:
    """The text as Markdown's code, fenced by more backticks than it holds (CommonMark 6.1)."""
    line = one_line(text)
    longest = max((len(run) for run in re.findall(r"`+", line)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if line[:1] == "`" or line[-1:] == "`" else ""
    return f"{fence}{pad}{line}{pad}{fence}"
