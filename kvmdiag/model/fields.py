"""The fields of the model's structs, and the texts in them, found by their types.

What walks a snapshot this way (redaction, comparison, files, documentation) needs to know no
struct by name.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import msgspec

from kvmdiag.model.meaning import MEANINGS, Meaning


class FieldInfo(msgspec.Struct, frozen=True):
    """A field of a struct: its name, its type, and what its text is."""

    struct: str
    name: str
    type: Any
    default: Any
    meaning: Meaning

    @property
    def key(self) -> str:
        """``Struct.field``, as the tables of meanings have it."""
        return f"{self.struct}.{self.name}"

    @property
    def has_text(self) -> bool:
        """Whether it holds text that is not one of a few fixed words."""
        return str in leaves(self.type)


@cache
def fields(struct: type) -> tuple[FieldInfo, ...]:
    """The fields of a struct in the order in which they are written."""
    return tuple(
        FieldInfo(
            struct.__name__,
            field.name,
            field.type,
            field.default,
            MEANINGS.get(f"{struct.__name__}.{field.name}", Meaning.UNKNOWN),
        )
        for field in msgspec.structs.fields(struct)
    )


def structs(root: type) -> tuple[type, ...]:
    """The struct and all that are used in it, each once, in the order of their use."""
    found: dict[type, None] = {}
    waiting = [root]
    while waiting:
        struct = waiting.pop(0)
        if struct in found:
            continue
        found[struct] = None
        for field in fields(struct):
            waiting += [t for t in leaves(field.type) if is_struct(t)]
    return tuple(found)


def leaves(hint: Any) -> Iterator[Any]:
    """The types that a type is put together from; of ``Literal`` its own kind is given."""
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        yield typing.Literal
    elif origin is typing.Annotated:
        yield from leaves(typing.get_args(hint)[0])
    elif origin is not None or isinstance(hint, types.UnionType):
        for inner in typing.get_args(hint):
            if inner is not Ellipsis:
                yield from leaves(inner)
    else:
        yield hint


def texts(struct: Any, wanted: frozenset[Meaning]) -> Iterator[tuple[FieldInfo, str]]:
    """Every text of these meanings in a struct and all that it holds; of mappings the keys."""
    kind: type = type(struct)
    for field in _leading_to(kind, wanted):
        waiting = [getattr(struct, field.name)]
        while waiting:
            value = waiting.pop()
            if isinstance(value, str):
                if field.meaning in wanted:
                    yield field, value
            elif isinstance(value, msgspec.Struct):
                yield from texts(value, wanted)
            elif isinstance(value, tuple | frozenset | Mapping):
                waiting += value


@cache
def _leading_to(struct: type, wanted: frozenset[Meaning]) -> tuple[FieldInfo, ...]:
    """The fields of a struct that hold such a text, or a struct that does somewhere."""
    return tuple(
        field
        for field in fields(struct)
        if (field.meaning in wanted and field.has_text)
        or any(
            other.meaning in wanted and other.has_text
            for hint in leaves(field.type)
            if is_struct(hint)
            for inner in structs(hint)
            for other in fields(inner)
        )
    )


def is_struct(hint: Any) -> bool:
    """Whether a type is a struct of the model."""
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)
