"""What several probes found, as JSON: ``kvmdiag.mtu/1``, ``.series/1`` and ``.exchange/1``."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from kvmdiag.model.measure import Exchange, PathMtu, Series
from kvmdiag.model.question import Question


def render_mtu(found: PathMtu) -> str:
    """The object as indented ASCII text, which no control character survives in."""
    return _text("kvmdiag.mtu/1", found)


def render_series(found: Series) -> str:
    """The same for several probes."""
    return _text("kvmdiag.series/1", found)


def render_exchange(found: Exchange) -> str:
    """The same for an exchange of messages."""
    return _text("kvmdiag.exchange/1", found)


def _text(schema: str, found: msgspec.Struct) -> str:
    fields: dict[str, Any] = {"schema": schema}
    for name in found.__struct_fields__:
        fields[name] = _plain(getattr(found, name))
    return json.dumps(fields, indent=2) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Question):
        return {
            "from": value.source.text,
            "to": value.destination.text,
            "proto": value.proto,
            "port": value.port,
        }
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if isinstance(value, msgspec.Struct):
        if hasattr(value, "stack"):
            return str(value)
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    return value
