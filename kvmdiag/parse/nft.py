"""JSON of ``nft -j list ruleset`` to tables. Source: libnftables-json(5)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from kvmdiag.model.netfilter import (
    Chain,
    Family,
    HookName,
    Match,
    NamedSet,
    NoEffect,
    Rule,
    Statement,
    Table,
    UnknownStatement,
)
from kvmdiag.parse.errors import ParseError
from kvmdiag.parse.nft_matches import element_text, matches
from kvmdiag.parse.nft_statements import statement
from kvmdiag.parse.nft_text import render, render_one

Key = tuple[Family, str]
_Object = Mapping[str, object]

_HOOKS: Mapping[str, HookName] = {name: name for name in get_args(HookName)}
_TYPES: Mapping[str, Literal["filter", "nat", "route"]] = {
    "filter": "filter",
    "nat": "nat",
    "route": "route",
}


def parse_ruleset(text: str) -> tuple[Table, ...]:
    """Tables of all families in the order listed, all of backend ``nft``.

    Raises:
        ParseError: it is not what nft prints; an empty text is none either.

    """
    try:
        listed = json.loads(text)["nftables"]
        return _tables([item for item in listed if isinstance(item, dict)])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        msg = f"nft printed no ruleset: {type(error).__name__}: {str(error)[:80]}"
        raise ParseError(msg) from error


def _tables(listed: Sequence[_Object]) -> tuple[Table, ...]:
    chains: dict[Key, list[_Object]] = {}
    sets: dict[Key, list[_Object]] = {}
    rules: dict[tuple[Key, str], list[_Object]] = {}
    for item in listed:
        for kind, inner in item.items():
            if not isinstance(inner, dict) or kind == "metainfo":
                continue
            if kind == "table":
                chains.setdefault((_family(inner), str(inner["name"])), [])
                continue
            if "table" not in inner:
                continue
            key = (_family(inner), str(inner["table"]))
            if kind == "chain":
                chains.setdefault(key, []).append(inner)
            elif kind == "rule":
                rules.setdefault((key, str(inner["chain"])), []).append(inner)
            elif kind in ("set", "map"):
                sets.setdefault(key, []).append(inner)
    return tuple(
        _table(key, own, sets.get(key, ()), {c: r for (k, c), r in rules.items() if k == key})
        for key, own in chains.items()
    )


def _family(inner: _Object) -> Family:
    known: tuple[Family, ...] = get_args(Family)
    return known[known.index(inner["family"])]


def _table(
    key: Key, chains: Sequence[_Object], sets: Sequence[_Object], rules: Mapping[str, list[_Object]]
) -> Table:
    family, name = key
    return Table(
        family=family,
        name=name,
        backend="nft",
        chains=tuple(
            _chain(chain, [_rule(r, family) for r in rules.get(str(chain["name"]), ())])
            for chain in chains
        ),
        sets=tuple(_named_set(item) for item in sets),
    )


def _elements(item: _Object) -> tuple[object, ...]:
    listed = item.get("elem", ())
    return tuple(listed) if isinstance(listed, list) else (listed,) if listed else ()


def _named_set(item: _Object) -> NamedSet:
    kind = render_one({"concat": item["type"]}) if isinstance(item["type"], list) else item["type"]
    if "map" in item:
        kind = f"{kind} : {render_one(item['map'])}"
    return NamedSet(
        name=str(item["name"]),
        type=str(kind),
        elements=tuple(element_text(element) for element in _elements(item)),
    )


def _chain(item: _Object, rules: Sequence[Rule]) -> Chain:
    if item.get("hook") is None:
        return Chain(name=str(item["name"]), rules=tuple(rules))
    hook, kind = _HOOKS[str(item["hook"])], _TYPES[str(item["type"])]
    devices = item.get("dev", ())
    return Chain(
        name=str(item["name"]),
        rules=tuple(rules),
        hook=hook,
        type=kind,
        priority=int(str(item["prio"])),
        policy="drop" if item.get("policy") == "drop" else "accept",
        devices=tuple(map(str, devices)) if isinstance(devices, list | tuple) else (str(devices),),
    )


def _rule(item: _Object, family: Family) -> Rule:
    expressions = item.get("expr", ())
    if not isinstance(expressions, list):
        expressions = []
    body: list[Match | Statement] = []
    counts: _Object = {}
    for expression in expressions:
        if not isinstance(expression, dict) or len(expression) != 1:
            body.append(UnknownStatement(text=render_one(expression)))
            continue
        ((kind, inner),) = expression.items()
        if kind == "counter":
            counts = inner if isinstance(inner, dict) else {}
        elif kind == "match" and isinstance(inner, dict):
            body += matches(inner, family, body)
        else:
            body.append(statement(kind, inner, family))
    comment, handle = item.get("comment"), item.get("handle")
    return Rule(
        body=tuple(body) or (NoEffect(text="no verdict"),),
        text=render(expressions) or "counter",
        handle=handle if isinstance(handle, int) else None,
        packets=_count(counts, "packets"),
        bytes=_count(counts, "bytes"),
        comment=comment if isinstance(comment, str) else None,
    )


def _count(counts: _Object, key: str) -> int | None:
    value = counts.get(key)
    return value if isinstance(value, int) else None
