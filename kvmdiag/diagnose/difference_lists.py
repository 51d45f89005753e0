"""Pairs the elements of two lists: by what they are called, or by text and place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

# What an element is called, where that is not its field ``name``. An element of another kind is
# called by its whole value, so that it can only be new or gone.
IDENTITIES: Mapping[str, tuple[str, ...]] = {
    "Address": ("link", "address", "prefix_length"),
    "BridgeVlan": ("link", "vid"),
    "FdbEntry": ("bridge", "mac", "vlan"),
    "Gap": ("stack", "fact"),
    "GuestNic": ("mac", "target", "source"),
    "Inside": ("domain",),
    "ListeningSocket": ("protocol", "address", "port"),
    "MdbEntry": ("bridge", "port", "group", "vid"),
    "Neighbour": ("link", "address"),
    "NexthopObject": ("id",),
    "NextHop": ("link", "gateway"),
    "PolicyRule": ("version", "priority", "source", "destination", "iif", "oif", "fwmark"),
    "Qdisc": ("handle", "parent"),
    "Route": ("destination", "table", "metric", "tos", "source", "type"),
    "Table": ("family", "name", "backend"),
    "TunnelEntry": ("link", "mac", "remote"),
    "VirtualFunction": ("index",),
}

# Lists longer than this are compared without looking for moves, which takes quadratic time.
_LONGEST = 5000


@dataclass(frozen=True, slots=True)
class Edit:
    """A text that is in one list only, with its place (from 0) there."""

    text: str
    old: int | None
    new: int | None


@dataclass(frozen=True, slots=True)
class Move:
    """A text that is in both lists, at another place among the others."""

    text: str
    old: int
    new: int


def identity(value: Any) -> object:
    """What an element is called."""
    names = IDENTITIES.get(type(value).__name__)
    if names is None and "name" in value.__struct_fields__:
        names = ("name",)
    return value if names is None else tuple(getattr(value, name) for name in names)


def paired(old: Sequence[Any], new: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Elements called the same, side by side; ``None`` beside one that is in one list only."""
    mine, others = _grouped(old), _grouped(new)
    for key in dict.fromkeys((*mine, *others)):
        left, right = mine.get(key, []), others.get(key, [])
        if len(left) == len(right) == 1:
            yield left[0], right[0]
            continue
        # Several are called alike: those that are equal are the same ones.
        unmatched = list(right)
        for value in left:
            if value in unmatched:
                unmatched.remove(value)
            else:
                yield value, None
        for value in unmatched:
            yield None, value


def _grouped(values: Sequence[Any]) -> dict[object, list[Any]]:
    groups: dict[object, list[Any]] = {}
    for value in values:
        groups.setdefault(identity(value), []).append(value)
    return groups


def edits(old: Sequence[str], new: Sequence[str]) -> list[Edit | Move]:
    """The fewest changes that make the one list the other, in the order of the new one."""
    start = 0
    while start < min(len(old), len(new)) and old[start] == new[start]:
        start += 1
    end = 0
    while end < min(len(old), len(new)) - start and old[-1 - end] == new[-1 - end]:
        end += 1
    gone, come = _differing(old[start : len(old) - end], new[start : len(new) - end])
    found: list[tuple[int, Edit | Move]] = []
    places: dict[str, list[int]] = {}
    for index in gone:
        places.setdefault(old[start + index], []).append(start + index)
    for index in come:
        text = new[start + index]
        before = places.get(text)
        if before:
            found.append((start + index, Move(text, before.pop(0), start + index)))
        else:
            found.append((start + index, Edit(text, None, start + index)))
    for text, left in places.items():
        found += [(index, Edit(text, index, None)) for index in left]
    return [edit for _, edit in sorted(found, key=lambda pair: pair[0])]


def _differing(old: Sequence[str], new: Sequence[str]) -> tuple[list[int], list[int]]:
    """The places in each that have no counterpart in the other."""
    if max(len(old), len(new)) > _LONGEST:
        return _unmatched(old, new), _unmatched(new, old)
    gone: list[int] = []
    come: list[int] = []
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    for tag, old_from, old_to, new_from, new_to in matcher.get_opcodes():
        if tag != "equal":
            gone += range(old_from, old_to)
            come += range(new_from, new_to)
    return gone, come


def _unmatched(mine: Sequence[str], others: Sequence[str]) -> list[int]:
    left = Counter(others)
    found = []
    for index, text in enumerate(mine):
        if left[text]:
            left[text] -= 1
        else:
            found.append(index)
    return found
