"""Comparisons of ``nft -j`` taken apart: fields, operators, operands, elements of sets.

Source: libnftables-json(5). What is not understood raises ``ValueError`` or ``TypeError``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kvmdiag.parse import values
from kvmdiag.parse.nft_text import render_one


@dataclass(frozen=True)
class Comparison:
    """A match taken apart: the operands on the right are a flat list."""

    operator: str
    field: Mapping[str, object]
    mask: object
    operands: tuple[object, ...]
    is_set: bool

    @property
    def negate(self) -> bool:
        """True for ``!=`` and ``!``.

        Raises:
            ValueError: the operator is an ordering.

        """
        if self.operator not in ("==", "in", "!=", "!"):
            msg = f"operator {self.operator}"
            raise ValueError(msg)
        return self.operator in ("!=", "!")

    @property
    def mask_bits(self) -> int | None:
        """The mask as a number, if there is one."""
        return None if self.mask is None else values.number(str(self.mask), values.ALL_BITS)

    @property
    def set_name(self) -> str | None:
        """The named set on the right, if one stands there."""
        name = self.operands[0] if len(self.operands) == 1 else None
        return name[1:] if isinstance(name, str) and name.startswith("@") else None


def comparison_of(expression: Mapping[str, object]) -> Comparison:
    """The comparison that ``{"match": expression}`` is."""
    left, right = expression["left"], expression["right"]
    if not isinstance(left, Mapping):
        raise TypeError(left)
    mask = None
    if "&" in left:
        left, mask = left["&"]
    is_set = False
    if isinstance(right, Mapping) and "set" in right:
        is_set, right = True, right["set"]
    if isinstance(right, Mapping) and "|" in right:
        right = right["|"]
    operands = right if isinstance(right, list | tuple) else (right,)
    return Comparison(str(expression["op"]), left, mask, tuple(map(plain, operands)), is_set)


def plain(element: object) -> object:
    """An element of a set without its time-out, counter and comment."""
    if isinstance(element, Mapping) and "elem" in element:
        return element["elem"]["val"]
    return element


def texts(operands: Iterable[object]) -> tuple[str, ...]:
    """The operands as texts, if they are words and numbers."""
    found = tuple(operands)
    if not all(isinstance(operand, str | int) for operand in found):
        raise ValueError(found)
    return tuple(str(operand) for operand in found)


def ordering(comparison: Comparison, most: int = values.ALL_BITS) -> tuple[int, int] | None:
    """The numbers up to ``most`` that ``<``, ``<=``, ``>`` or ``>=`` is true of.

    ``None`` for other operators. An empty range, such as ``(0, -1)``, holds no number.
    """
    if comparison.operator not in ("<", "<=", ">", ">="):
        return None
    (operand,) = texts(comparison.operands)
    number = values.number(operand, most)
    if comparison.operator[0] == "<":
        return 0, number - (comparison.operator == "<")
    return number + (comparison.operator == ">"), most


def number_range(operand: object, most: int = values.ALL_BITS) -> tuple[int, int]:
    """A number up to ``most``, or the first and last of a range of them."""
    if isinstance(operand, Mapping) and "prefix" in operand:
        # Of numbers nft writes ranges so only of marks, in sets, and then only where it can.
        inner = operand["prefix"]
        low = values.number(str(inner["addr"]), most)
        return low, low | values.ALL_BITS >> values.number(str(inner["len"]), 32)
    first, last = operand["range"] if isinstance(operand, Mapping) else (operand, operand)
    return values.number(str(first), most), values.number(str(last), most)


def fields_of(left: object) -> tuple[str, ...]:
    """The fields that an expression names, in nft's own words (``ip saddr``, ``iifname``)."""
    if not isinstance(left, Mapping):
        raise TypeError(left)
    ((kind, inner),) = left.items()
    if kind == "concat":
        return tuple(name for part in inner for name in fields_of(part))
    if not isinstance(inner, Mapping) or kind not in ("payload", "meta", "ct"):
        return (render_one(left),)
    key = str(inner["key"]) if kind != "payload" else f"{inner['protocol']} {inner['field']}"
    if kind == "meta" and key in ("iif", "oif", "iifname", "oifname"):
        return (key,)
    words = {"payload": "", "meta": "meta ", "ct": f"ct {inner.get('dir', '')} "}[kind]
    return (f"{words}{key}".replace("  ", " "),)


def element_text(element: object) -> str:
    """An element of a set or map, without its time-out, counter and comment."""
    if isinstance(element, list):
        key, value = element
        return f"{element_text(key)} : {render_one(plain(value))}"
    return render_one(plain(element))
