"""JSON of ``nft -j list ruleset`` to tables. Source: libnftables-json(5)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, get_args

import msgspec

from kvmdiag.model.matches import Match
from kvmdiag.model.netfilter import Chain, Family, Flowtable, HookName, NamedSet, Rule, Table
from kvmdiag.model.statements import NoEffect, Statement, UnknownStatement
from kvmdiag.parse.errors import ParseError
from kvmdiag.parse.nft_matches import matches
from kvmdiag.parse.nft_operands import element_text
from kvmdiag.parse.nft_statements import statement
from kvmdiag.parse.nft_text import render, render_one

Key = tuple[Family, str]
_Object = Mapping[str, object]

_FAMILIES: Mapping[str, Family] = {name: name for name in get_args(Family)}
_HOOKS: Mapping[str, HookName] = {name: name for name in get_args(HookName)}
_TYPES: Mapping[str, Literal["filter", "nat", "route"]] = {
    "filter": "filter",
    "nat": "nat",
    "route": "route",
}


class _Listing(msgspec.Struct):
    nftables: list[dict[str, msgspec.Raw]]


class _Listed(msgspec.Struct):
    """A rule of which the expressions are not looked at (yet)."""

    family: str
    table: str
    chain: str
    handle: int | None = None
    comment: str | None = None
    expr: msgspec.Raw = msgspec.Raw(b"[]")


def parse_ruleset(text: str, *, handles_only: Collection[Key] = ()) -> tuple[Table, ...]:
    """Tables of all families in the order listed, all of backend ``nft``.

    Args:
        text: what nft printed.
        handles_only: tables whose rules have nothing but their handles, since what they mean
            is read elsewhere (:mod:`kvmdiag.parse.join`).

    Raises:
        ParseError: it is not what nft prints; an empty text is none either.

    """
    try:
        listed = msgspec.json.decode(text, type=_Listing).nftables
        return _tables(listed, frozenset(handles_only))
    except (
        msgspec.MsgspecError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
    ) as error:
        msg = f"nft printed no ruleset: {type(error).__name__}: {str(error)[:80]}"
        raise ParseError(msg) from error


def _tables(
    listed: Sequence[Mapping[str, msgspec.Raw]], handles_only: frozenset[Key]
) -> tuple[Table, ...]:
    chains: dict[Key, list[_Object]] = {}
    sets: dict[Key, list[_Object]] = {}
    flowtables: dict[Key, list[_Object]] = {}
    rules: dict[Key, dict[str, list[Rule]]] = {}
    decode_rule = msgspec.json.Decoder(_Listed).decode
    for item in listed:
        for kind, raw in item.items():
            if kind == "rule":
                rule = decode_rule(raw)
                key = (_family(rule.family), rule.table)
                read = _handle if key in handles_only else _rule
                rules.setdefault(key, {}).setdefault(rule.chain, []).append(read(rule, key[0]))
                continue
            inner = msgspec.json.decode(raw)
            if not isinstance(inner, dict) or kind == "metainfo":
                continue
            if kind == "table":
                chains.setdefault((_family(inner["family"]), str(inner["name"])), [])
                continue
            if "table" not in inner:
                continue
            key = (_family(inner["family"]), str(inner["table"]))
            if kind == "chain":
                chains.setdefault(key, []).append(inner)
            elif kind in ("set", "map"):
                sets.setdefault(key, []).append(inner)
            elif kind == "flowtable":
                flowtables.setdefault(key, []).append(inner)
    return tuple(
        Table(
            family=key[0],
            name=key[1],
            backend="nft",
            chains=tuple(_chain(one, rules.get(key, {}).get(str(one["name"]), ())) for one in own),
            sets=tuple(map(_named_set, sets.get(key, ()))),
            flowtables=tuple(map(_flowtable, flowtables.get(key, ()))),
        )
        for key, own in chains.items()
    )


def _family(name: str) -> Family:
    return _FAMILIES[name]


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
    return Chain(
        name=str(item["name"]),
        rules=tuple(rules),
        hook=hook,
        type=kind,
        priority=int(str(item["prio"])),
        policy="drop" if item.get("policy") == "drop" else "accept",
        devices=_devices(item),
    )


def _flowtable(item: _Object) -> Flowtable:
    return Flowtable(
        name=str(item["name"]), devices=_devices(item), priority=int(str(item.get("prio", 0)))
    )


def _devices(item: _Object) -> tuple[str, ...]:
    """One link is printed without a list."""
    devices = item.get("dev", ())
    return tuple(map(str, devices)) if isinstance(devices, list | tuple) else (str(devices),)


def _handle(item: _Listed, _: Family) -> Rule:
    return Rule(body=(), text="", handle=item.handle)


def _rule(item: _Listed, family: Family) -> Rule:
    expressions = msgspec.json.decode(item.expr)
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
    return Rule(
        body=tuple(body) or (NoEffect(text="no verdict"),),
        text=render(expressions) or "counter",
        handle=item.handle,
        packets=_count(counts, "packets"),
        bytes=_count(counts, "bytes"),
        comment=item.comment,
    )


def _count(counts: _Object, key: str) -> int | None:
    value = counts.get(key)
    return value if isinstance(value, int) else None
