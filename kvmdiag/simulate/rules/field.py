"""What a field of a packet is, to rules and to sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from kvmdiag.parse import values
from kvmdiag.simulate.rules import spans
from kvmdiag.simulate.rules.context import Seen
from kvmdiag.simulate.rules.spans import Span


class _Mark:
    """A value that is none; compared by identity."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


ABSENT: Final = _Mark("ABSENT")
UNKNOWN: Final = _Mark("UNKNOWN")

Value = int | str | _Mark
"""A number or, for device names, a string; :data:`ABSENT` when the packet has no such field,
:data:`UNKNOWN` when the snapshot cannot tell."""

Getter = Callable[[Seen], Value]


class Field(msgspec.Struct, frozen=True):
    """How a field is got from a packet, how elements of sets write it, and its width in bits."""

    get: Getter
    parse: Callable[[str], Span]
    bits: int = 32

    def span(self, text: str) -> Span:
        """The values an element stands for; nft writes ranges of numbers as prefixes if it can."""
        number, found, length = text.partition("/")
        if not found or self.parse is spans.address:
            return self.parse(text)
        first = values.number(number, (1 << self.bits) - 1)
        return first, first | (1 << self.bits - values.number(length, self.bits)) - 1


def of_version(version: int, get: Callable[[Seen], Value]) -> Getter:
    """What packets of one IP version have, and no others."""
    family = "ip" if version == 4 else "ip6"
    return lambda seen: get(seen) if seen.family == family else ABSENT
