"""Elements of sets and maps, indexed: a lookup takes as long as there are kinds of elements.

An element is a key of one or more parts, each an exact value, a prefix, a range, or a name
with any ending. Keys whose parts have the same shape (the lengths of their prefixes) are in
one dictionary; what is a range and no prefix is split into prefixes, as nft's own interval
sets do it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Generic, TypeVar, cast

from kvmdiag.simulate.rules.field import ABSENT, UNKNOWN, Value
from kvmdiag.simulate.rules.spans import Span

T = TypeVar("T")
Key = tuple[int | str, ...]

_MOST = 1 << 12
"""Prefixes that one element may be split into."""

_EXACT = -1


class Elements(Generic[T]):
    """Keys with what each stands for; the most specific key that fits is the one found."""

    def __init__(self, bits: Sequence[int]) -> None:
        self._bits = tuple(bits)
        self._by_shape: dict[tuple[int, ...], dict[Key, T]] = {}
        self._shapes: list[tuple[int, ...]] = []

    def add(self, key: Sequence[Span], value: T) -> None:
        """Add an element.

        Raises:
            ValueError: it covers more than can be indexed.
        """
        parts = [list(_parts(span, bits)) for span, bits in zip(key, self._bits, strict=True)]
        count = 1
        for part in parts:
            count *= len(part)
        if count > _MOST:
            msg = f"an element of {count} prefixes"
            raise ValueError(msg)
        for combination in product(*parts):
            shape = tuple(length for length, _ in combination)
            if shape not in self._by_shape:
                self._by_shape[shape] = {}
                self._shapes = sorted(self._by_shape, key=_specific, reverse=True)
            self._by_shape[shape].setdefault(tuple(value for _, value in combination), value)

    def look_up(self, parts: Iterable[Value]) -> T | bool | None:
        """What the parts of a key stand for; ``False`` when no element fits or one is absent.

        ``None`` when one is unknown and an element fits the others.
        """
        key = tuple(parts)
        if ABSENT in key:
            return False
        if UNKNOWN in key:
            return None if self._may_have(key) else False
        found = self.find(cast("Key", key))
        return False if found is None else found

    def _may_have(self, key: tuple[Value, ...]) -> bool:
        """Whether an element fits the known parts of a key."""
        where = [number for number, part in enumerate(key) if part is not UNKNOWN]
        values = [cast("int | str", key[number]) for number in where]
        for shape, elements in self._by_shape.items():
            short = [
                _shortened(value, shape[n], self._bits[n])
                for n, value in zip(where, values, strict=True)
            ]
            if any([mine[n] for n in where] == short for mine in elements):
                return True
        return False

    def find(self, key: Key) -> T | None:
        """What the key stands for, ``None`` when no element fits."""
        for shape in self._shapes:
            short = tuple(map(_shortened, key, shape, self._bits))
            found = self._by_shape[shape].get(short)
            if found is not None:
                return found
        return None

    def values(self) -> Iterator[T]:
        """What the elements stand for; more than once what several of them do."""
        for elements in self._by_shape.values():
            yield from elements.values()


def _specific(shape: tuple[int, ...]) -> int:
    return sum(1 << 10 if length == _EXACT else length for length in shape)


def _shortened(value: int | str, length: int, bits: int) -> int | str:
    if length == _EXACT:
        return value
    return value[:length] if isinstance(value, str) else value >> (bits - length)


def _parts(span: Span, bits: int) -> Iterator[tuple[int, int | str]]:
    """Shape and value of the prefixes that make up a span."""
    if isinstance(span, str):
        yield (len(span) - 1, span[:-1]) if span.endswith("*") else (_EXACT, span)
        return
    first, last = span
    if not 0 <= first <= last < 1 << bits:
        msg = f"{first} to {last} is no span of {bits} bits"
        raise ValueError(msg)
    if first == last:
        yield _EXACT, first
        return
    while first <= last:
        free = (first & -first).bit_length() - 1 if first else bits
        free = min(free, (last - first + 1).bit_length() - 1)
        yield bits - free, first >> free
        first += 1 << free
