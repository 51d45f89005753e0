r"""Split a rule as iptables-save prints it into options with their values.

``xtables_save_string()`` of iptables puts strings between double quotes when it must, and a
backslash before ``"``, ``'`` and ``\\``. That is neither what a shell nor what
:mod:`shlex` understands, so the words are told apart here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

MAX_RULE_LENGTH = 1 << 14
"""Characters; the kernel's largest rules print to a fraction of this."""

_WORD = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|(\S+))""", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)

# Their value is free text and may look like an option.
_TAKES_TEXT = frozenset({"--comment", "--log-prefix", "--nflog-prefix", "--string"})


class Option(msgspec.Struct, frozen=True):
    """``! --dport 80``: negated or not, its name, and its values."""

    name: str
    values: tuple[str, ...] = ()
    negate: bool = False

    @property
    def text(self) -> str:
        """The option as it was written, without quotes."""
        return " ".join((*(("!",) if self.negate else ()), self.name, *self.values))

    @property
    def value(self) -> str:
        """The only value.

        Raises:
            ValueError: there is none, or more than one.

        """
        (value,) = self.values
        return value


def options(text: str) -> tuple[Option, ...]:
    """The options of a rule, in the order written.

    Values without an option (a stray word at the start) become an option named by the word.

    Raises:
        ValueError: the text is too long, or a quotation does not end.

    """
    if len(text) > MAX_RULE_LENGTH:
        msg = f"a rule of {len(text)} characters"
        raise ValueError(msg)
    if '"' in text or "'" in text:
        return _grouped(*_words(text))
    return _grouped(text.split(), frozenset())


def arguments(text: str) -> tuple[str, ...]:
    """The words of a rule as iptables takes them for arguments, without quotes and escapes.

    Raises:
        ValueError: a quotation does not end.

    """
    return tuple(_words(text)[0])


def _words(text: str) -> tuple[Sequence[str], frozenset[int]]:
    """The words, and which of them stood between quotes."""
    words: list[str] = []
    quoted = set()
    position, end = 0, len(text.rstrip())
    while position < end:
        found = _WORD.match(text, position, end)
        if found is None:  # pragma: no cover - \S+ matches whatever remains
            break
        double, single, plain = found.groups()
        if plain is None:
            string = single if double is None else _ESCAPED.sub(r"\1", double)
            quoted.add(len(words))
            words.append(string)
        elif plain.startswith('"'):
            msg = "a quotation does not end"
            raise ValueError(msg)
        else:
            words.append(plain)
        position = found.end()
    return words, frozenset(quoted)


def _grouped(words: Sequence[str], quoted: frozenset[int]) -> tuple[Option, ...]:
    found: list[Option] = []
    negate = False
    index = 0
    while index < len(words):
        word = words[index]
        index += 1
        if word == "!" and index - 1 not in quoted:
            negate = True
            continue
        first = index
        if word in _TAKES_TEXT:
            index = min(index + 1, len(words))
        else:
            while index < len(words) and (
                index in quoted or not (words[index] == "!" or words[index].startswith("-"))
            ):
                index += 1
        found.append(Option(word, tuple(words[first:index]), negate))
        negate = False
    if negate:
        found.append(Option("!"))
    return tuple(found)
