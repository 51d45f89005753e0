"""How changes are said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from kvmdiag.model.fields import FieldInfo, fields
from kvmdiag.model.libvirt import GuestNic
from kvmdiag.model.netfilter import Chain, NamedSet, Rule, Table
from kvmdiag.model.snapshot import Gap
from kvmdiag.model.stack import Address, FdbEntry, Neighbour, NextHop, Route

# Nouns that are not the struct's own name in lower case; empty where the name says it all.
_NOUNS = {
    "FdbEntry": "FDB entry ",
    "Gap": "",
    "GuestNic": "NIC ",
    "Inside": "inside of ",
    "ListeningSocket": "socket ",
    "MdbEntry": "multicast group ",
    "NamedSet": "set ",
    "NexthopObject": "nexthop ",
    "PolicyRule": "policy rule ",
    "TunnelEntry": "tunnel entry ",
    "VirtualFunction": "virtual function ",
}
_SENTENCES: Mapping[tuple[str, str], str] = {
    ("Link.up", "yes"): "{} was set up",
    ("Link.up", "no"): "{} was set down",
    ("Link.carrier", "yes"): "{} has a carrier now",
    ("Link.carrier", "no"): "{} lost its carrier",
}
_LONGEST = 300
_SHORT_LIST = 8


def noun(value: Any) -> str:
    """What kind of thing it is, with a space behind."""
    name = type(value).__name__
    return _NOUNS.get(name, f"{name.lower()} ")


def label(field: FieldInfo) -> str:
    """A field in words."""
    return field.name.replace("_", " ")


def of(subject: str) -> str:
    """Whose it is."""
    return f" of {subject}" if subject else ""


def shown(value: Any) -> str:
    """A value as text, cut where it is too long to read."""
    if value is None or value == () or value == frozenset():
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, frozenset):
        return ", ".join(sorted(map(shown, value)))
    if isinstance(value, tuple):
        return ", ".join(map(shown, value))
    if isinstance(value, msgspec.Struct):
        return said(value, "")
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def without_common(old: Any, new: Any) -> tuple[str, str]:
    """Two values as text; of long lists of words only what the other does not have."""
    lists = isinstance(old, tuple | frozenset) and isinstance(new, tuple | frozenset)
    if lists and len(old) + len(new) > _SHORT_LIST:
        common = set(old) & set(new)
        old, new = (tuple(word for word in words if word not in common) for words in (old, new))
    return shown(old), shown(new)


def said(value: Any, subject: str) -> str:
    """What an element of a list is called, with what it belongs to."""
    say = _SAID.get(type(value))
    if say is not None:
        return say(value, subject)
    name = getattr(value, "name", None)
    return str(name) if name is not None else _whole(value)


def _route(value: Route, _subject: str) -> str:
    return value.text + ("" if value.table == _MAIN_TABLE else f" table {value.table}")


_MAIN_TABLE = 254
_SAID: Mapping[type, Callable[[Any, str], str]] = {
    Address: lambda value, _: f"{value.network} on {value.link}",
    Chain: lambda value, subject: f"{value.name}{of(subject)}",
    FdbEntry: lambda value, _: f"{value.mac} at {value.port} of {value.bridge}",
    Gap: lambda value, _: f"{value.fact}{of(value.stack or '')} not read: {value.why}",
    GuestNic: lambda value, subject: f"{value.target or value.mac or value.type}{of(subject)}",
    NamedSet: lambda value, subject: f"{value.name}{of(subject)}",
    Neighbour: lambda value, _: f"{value.address} on {value.link}",
    NextHop: lambda value, subject: subject or f"via {value.gateway or value.link}",
    Route: _route,
    Rule: lambda value, _: shown(value.text),
    Table: lambda value, _: f"{value.family} {value.name} ({value.backend})",
}


def _whole(value: Any) -> str:
    """A struct without a name, by the fields that say something."""
    kind: type = type(value)
    words = []
    for field in fields(kind):
        own = getattr(value, field.name)
        if own != field.default and not isinstance(own, msgspec.Struct):
            words.append(str(own) if isinstance(own, str) else f"{label(field)} {shown(own)}")
    return shown(" ".join(words)) if words else kind.__name__.lower()


def field_changed(field: FieldInfo, subject: str, before: str, after: str) -> str:
    """The sentence about a value that changed."""
    sentence = _SENTENCES.get((field.key, after))
    if sentence is not None:
        return sentence.format(subject)
    if field.key == "Link.master":
        if after == "none":
            return f"{subject} was taken out of {before}"
        return f"{subject} was plugged into {after}" + (
            "" if before == "none" else f", from {before}"
        )
    if field.key == "Link.index":
        return f"{subject} was made anew: its number was {before} and is {after}"
    lead = f"{subject}: " if subject else ""
    return f"{lead}{label(field)} {before} → {after}"
