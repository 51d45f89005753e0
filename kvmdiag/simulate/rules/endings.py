"""Statements compiled that end a way through a chain, or lead to another: verdicts, maps, NAT."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from kvmdiag.model.statements import (
    Accept,
    DestinationNat,
    Drop,
    Goto,
    Jump,
    Masquerade,
    NetMap,
    Redirect,
    Reject,
    Return,
    SourceNat,
    Statement,
    Translation,
    UnknownStatement,
    ValueMap,
    VerdictMap,
)
from kvmdiag.parse.values import number
from kvmdiag.simulate.rules.context import Seen
from kvmdiag.simulate.rules.sets import Sets

Kind = Literal[
    "accept", "drop", "reject", "nat", "unknown", "return", "jump", "goto", "map", "either"
]


class End(msgspec.Struct, frozen=True):
    """Where a rule sends the packet.

    ``choose`` is what a map says for it; ``either`` holds what may happen when that cannot
    be told, ``None`` standing for the next rule.
    """

    kind: Kind
    target: str = ""
    reply: str | None = None
    nat: Translation | None = None
    why: str = ""
    choose: Callable[[Seen], End | None] | None = None
    either: tuple[End | None, ...] = ()


_VERDICTS = {Accept: End("accept"), Drop: End("drop"), Return: End("return")}


def ending(statement: Statement, sets: Sets) -> End:
    """What a statement that is no effect leads to."""
    match statement:
        case Accept() | Drop() | Return():
            return _VERDICTS[type(statement)]
        case Reject():
            return End("reject", reply=statement.reply)
        case Jump():
            return End("jump", statement.chain)
        case Goto():
            return End("goto", statement.chain)
        case SourceNat() | DestinationNat() | Masquerade() | Redirect() | NetMap():
            return End("nat", nat=statement)
        case VerdictMap():
            return _map(statement, sets, _verdict)
        case ValueMap():
            return _map(statement, sets, lambda text: _translation(statement, text))
        case UnknownStatement():
            return End("unknown", why=statement.text)
    raise AssertionError(statement)


def _map(statement: VerdictMap | ValueMap, sets: Sets, value: Callable[[str], End]) -> End:
    fields = " . ".join(statement.fields)
    made = sets.lookup(statement.fields, statement.name, statement.elements, value)
    if made is None:
        return _any_element(statement, sets, value, fields)
    lookup, elements = made

    def choose(seen: Seen) -> End | None:
        found = lookup(seen)
        if found is None:
            return End("either", either=(None, *dict.fromkeys(elements.values())))
        return found if isinstance(found, End) else None

    return End("map", choose=choose)


def _any_element(
    statement: VerdictMap | ValueMap, sets: Sets, value: Callable[[str], End], fields: str
) -> End:
    """What a map says for fields that cannot be told, such as a random number."""
    texts = sets.elements(statement.name, statement.elements)
    try:
        ends = [value(text.partition(" : ")[2]) for text in texts or ()]
    except (ValueError, KeyError):
        ends = []
    if not ends:
        return End("unknown", why=f"map {statement.name or fields} is not understood")
    unless = () if _covers_all(fields, texts or ()) else (None,)
    return End("either", either=(*unless, *dict.fromkeys(ends)))


def _covers_all(field: str, texts: Sequence[str]) -> bool:
    """Whether a map has an element for all that a number generator or a hash may come to."""
    found = re.fullmatch(r"(?:numgen|jhash|symhash)\b.* mod (\d+)\b(?:.* offset (\d+))?.*", field)
    if found is None:
        return False
    first = int(found[2] or 0)
    keys = [text.partition(" : ")[0].partition("-") for text in texts]
    if not all(low.isdigit() and (not dash or high.isdigit()) for low, dash, high in keys):
        return False
    spans = sorted((int(low), int(high or low)) for low, _, high in keys)
    wanted = first
    for low, high in spans:
        if low <= wanted:
            wanted = max(wanted, high + 1)
    return wanted >= first + int(found[1])


def _translation(statement: ValueMap, text: str) -> End:
    """An address, a port, or both, as an element of a map of translations has them."""
    address, _, port = text.partition(" . ")
    if address.isdigit():
        address, port = "", address
    first, _, last = address.partition("-")
    low, _, high = port.partition("-")
    ports = (number(low, 65535), number(high or low, 65535)) if port else None
    nat: Translation
    if "/" in address:
        nat = NetMap(network=address)
    elif statement.action == "redirect":
        nat = Redirect(ports=ports)
    elif statement.action == "dnat":
        nat = DestinationNat(first=first or None, last=last or None, ports=ports)
    elif first:
        nat = SourceNat(first=first, last=last or None, ports=ports)
    else:
        raise ValueError(text)
    return End("nat", nat=nat)


def _verdict(text: str) -> End:
    """``accept``, ``drop``, ``jump CHAIN`` ... as an element of a verdict map has it."""
    word, _, target = text.partition(" ")
    kinds: dict[str, Kind] = {
        "accept": "accept", "drop": "drop", "return": "return", "jump": "jump", "goto": "goto",
    }  # fmt: skip
    if word == "continue":
        return End("either", either=(None,))
    return End(kinds[word], target)


def described(nat: Translation) -> str:
    """``dnat to 10.0.0.9 port 80``, short enough to stand in a sentence."""
    match nat:
        case SourceNat() | DestinationNat():
            target = f" to {nat.first}" if nat.first else ""
        case NetMap():
            target = f" to {nat.network}"
        case _:
            target = ""
    ports = None if isinstance(nat, NetMap) else nat.ports
    port = f" port {ports[0]}" if ports is not None else ""
    return f"{_NAMES[type(nat)]}{target}{port}"


_NAMES: dict[type[Translation], str] = {
    SourceNat: "snat",
    DestinationNat: "dnat",
    Masquerade: "masquerade",
    Redirect: "redirect",
    NetMap: "netmap",
}
