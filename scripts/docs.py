"""Writes docs/snapshot-file.md from the structs that snapshot files are decoded to."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from kvmdiag.model.fields import FieldInfo, fields, structs
from kvmdiag.model.meaning import PASSING, UNORDERED, Meaning
from kvmdiag.model.snapshot import Snapshot

PAGE = Path(__file__).parent.parent / "docs" / "snapshot-file.md"

# What stands above it is written by hand.
_FIELDS = "## Fields\n"

_MEANINGS: Mapping[Meaning, str] = {
    Meaning.WORD: "",
    Meaning.ADDRESS: "an address",
    Meaning.NETWORK: "a network or range",
    Meaning.MAC: "a MAC address",
    Meaning.LINK: "a link's name",
    Meaning.CHAIN: "a chain's name",
    Meaning.NAME: "a name",
    Meaning.PATH: "a path",
    Meaning.SYSCTLS: "sysctl names, which hold link names",
    Meaning.RULE: "rule text",
    Meaning.TEXT: "free text",
    Meaning.PROSE: "a sentence",
    Meaning.UNKNOWN: "",
}


def page() -> str:
    """The whole page: what is there up to the fields, and the fields as they are."""
    written = PAGE.read_text().partition(_FIELDS)[0]
    return "\n".join([written + _FIELDS, *(_section(struct) for struct in structs(Snapshot))])


def _section(struct: type) -> str:
    lines = [f"### {struct.__name__}", "", _markdown(inspect.getdoc(struct) or ""), ""]
    tag = struct.__struct_config__.tag  # type: ignore[attr-defined]
    if tag is not None:
        lines += [f'Written with `"is": "{tag}"`.', ""]
    own = fields(struct)
    if own:
        lines += ["| field | type | default | |", "|---|---|---|---|"]
        lines += [_row(field) for field in own]
        lines.append("")
    return "\n".join(lines)


def _row(field: FieldInfo) -> str:
    notes = [_MEANINGS[field.meaning]] if field.has_text and field.meaning in _MEANINGS else []
    notes += ["passing"] if field.key in PASSING else []
    notes += ["order means nothing"] if field.key in UNORDERED else []
    default = "" if not _has_default(field) else f"`{_json(field.default)}`"
    said = ", ".join(note for note in notes if note)
    return f"| `{field.name}` | {_type(field.type)} | {default} | {said} |"


def _has_default(field: FieldInfo) -> bool:
    return field.default is not msgspec.NODEFAULT


def _json(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, tuple | frozenset):
        return "[]"
    if isinstance(value, Mapping):
        return "{}"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _type(hint: Any) -> str:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " or ".join(f'`"{word}"`' for word in inner)
    if origin is typing.Union or isinstance(hint, types.UnionType):
        return " or ".join(_type(option) for option in inner)
    if origin is tuple and inner[-1] is not Ellipsis:
        return "list of " + ", ".join(_type(option) for option in inner)
    if origin in (tuple, frozenset):
        return f"list of {_type(inner[0])}"
    if origin is not None:
        return f"object of {_type(inner[0])} to {_type(inner[1])}"
    plain = {str: "text", int: "number", float: "number", bool: "true or false"}
    if hint is type(None):
        return "null"
    return plain.get(hint) or f"[{hint.__name__}](#{hint.__name__.lower()})"


def _markdown(text: str) -> str:
    """A docstring, in which code stands between double backquotes, as Markdown."""
    text = re.sub(r":(?:class|func|data):`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
    text = re.sub(r"``(.+?)``", r"`\1`", text, flags=re.DOTALL)
    text = text.replace("`None`", "`null`")
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


if __name__ == "__main__":
    PAGE.write_text(page())
