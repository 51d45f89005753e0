"""Making names and messages safe to print.

Names of links, guests and chains, comments of rules and what guests say are chosen by
others; a control character among them could redraw the terminal or break a file.
"""

from __future__ import annotations

import unicodedata

# Cc: controls; Cf: format characters, among them those that turn the reading direction;
# Cs: lone surrogates; Zl, Zp: line and paragraph separators.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

# Excluded from XML though Unicode calls them merely unassigned.
_NONCHARACTERS = {0xFFFE: "\\ufffe", 0xFFFF: "\\uffff"}


def _escaped(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def safe(text: str) -> str:
    r"""The text with control characters written out (``\x1b``); line breaks too."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _escaped(character) if unicodedata.category(character) in _UNSAFE else character
        for character in text
    )


def one_line(text: str) -> str:
    """The text in one line: white space, line breaks too, becomes single spaces."""
    return safe(" ".join(text.split()))


def xml_safe(text: str) -> str:
    """The text with everything escaped that XML 1.0 cannot hold (its section 2.2, ``Char``).

    ``<``, ``&`` and quotes are the XML writer's business. Line breaks are kept.
    """
    lines = (safe(line).translate(_NONCHARACTERS) for line in text.split("\n"))
    return "\n".join(lines)
