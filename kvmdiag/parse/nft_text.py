"""Expressions of ``nft -j`` as readable text, close to what ``nft list ruleset`` prints."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

_DEEPEST = 12


def render(expressions: Sequence[object]) -> str:
    """The text of a rule."""
    return " ".join(filter(None, (_part(expression, 0) for expression in expressions)))


def render_one(expression: object) -> str:
    """The text of one match, statement or value."""
    return _part(expression, 0)


def _part(value: object, depth: int) -> str:
    if depth > _DEEPEST:
        return "..."
    if isinstance(value, str):
        return value if value and " " not in value else json.dumps(value)
    if isinstance(value, Sequence):
        return ",".join(_part(item, depth + 1) for item in value)
    if isinstance(value, Mapping) and len(value) == 1:
        ((name, inner),) = value.items()
        return _named(str(name), inner, depth + 1)
    return json.dumps(value, sort_keys=True)


def _named(name: str, inner: object, depth: int) -> str:
    """An object of one key: its kind, and what is in it."""
    if name in ("&", "|", "^", "<<", ">>") and isinstance(inner, list):
        return f" {name} ".join(_part(item, depth) for item in inner)
    if name == "range" and isinstance(inner, list):
        return "-".join(_part(item, depth) for item in inner)
    if name == "concat" and isinstance(inner, list):
        return " . ".join(_part(item, depth) for item in inner)
    if name == "set" and isinstance(inner, list):
        return "{ " + ", ".join(_element(item, depth) for item in inner) + " }"
    if inner is None:
        return name
    if isinstance(inner, Mapping):
        return _fields(name, inner, depth)
    return f"{name} {_part(inner, depth)}"


def _element(item: object, depth: int) -> str:
    """An element of a set, or of a map: ``key : value``."""
    if isinstance(item, list):
        return " : ".join(_part(part, depth) for part in item)
    return _part(item, depth)


def _fields(name: str, inner: Mapping[str, object], depth: int) -> str:
    words = {key: _part(value, depth) for key, value in inner.items()}
    if name in ("meta", "ct") and words.get("key") in ("iif", "oif", "iifname", "oifname"):
        return words["key"]
    if name == "match" and words.get("op") in ("==", "in"):
        words["op"] = ""
    elif name == "match" and "op" in words:
        words["op"] = f" {words['op']}"
    if name == "fib" and isinstance(inner.get("flags"), list):
        words["flags"] = words["flags"].replace(",", " . ")
    shape = _SHAPES.get(name)
    if shape is None:
        return _plain(name, words)
    try:
        return shape.format(**words).strip()
    except KeyError:
        return _plain(name, words)


def _plain(name: str, words: Mapping[str, str]) -> str:
    return " ".join((name, *(f"{key} {text}" for key, text in words.items())))


_SHAPES = {
    "match": "{left}{op} {right}",
    "payload": "{protocol} {field}",
    "meta": "meta {key}",
    "ct": "ct {key}",
    "prefix": "{addr}/{len}",
    "jump": "jump {target}",
    "goto": "goto {target}",
    "counter": " ",
    "mangle": "{key} set {value}",
    "vmap": "{key} vmap {data}",
    "map": "{key} map {data}",
    "fib": "fib {flags} {result}",
    "xt": "xt {type} {name}",
}
