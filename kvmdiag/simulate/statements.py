"""Statements compiled: effects on the packet's marks, and ends of a way through a chain."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from kvmdiag.model.netfilter import (
    Accept,
    AddToSet,
    CopyMark,
    DestinationNat,
    Drop,
    Goto,
    Jump,
    Masquerade,
    NetMap,
    NoEffect,
    NoTrack,
    Redirect,
    Reject,
    Return,
    SetMark,
    SetZone,
    SourceNat,
    Statement,
    UnknownStatement,
    ValueMap,
    VerdictMap,
)
from kvmdiag.parse.values import number
from kvmdiag.simulate.context import Seen
from kvmdiag.simulate.sets import SetKey, Sets, set_key

NatStatement = SourceNat | DestinationNat | Masquerade | Redirect | NetMap
Effect = Callable[[Seen], bool | None]
"""Changes what is seen; ``False`` ends the rule there."""

_ALL = 0xFFFFFFFF
Kind = Literal[
    "accept", "drop", "reject", "nat", "unknown", "return", "jump", "goto", "map", "either"
]


class UndecidedError(Exception):
    """What a statement does to the packet cannot be told."""


@dataclass(frozen=True, slots=True)
class End:
    """Where a rule sends the packet.

    ``choose`` is what a map says for it; ``either`` holds what may happen when that cannot
    be told, ``None`` standing for the next rule.
    """

    kind: Kind
    target: str = ""
    reply: str | None = None
    nat: NatStatement | None = None
    why: str = ""
    choose: Callable[[Seen], End | None] | None = None
    either: tuple[End | None, ...] = ()


_PLAIN = {Accept: End("accept"), Drop: End("drop"), Return: End("return")}


def ending(statement: Statement, sets: Sets) -> End | None:
    """What a statement that is no effect leads to."""
    match statement:
        case Accept() | Drop() | Return():
            return _PLAIN[type(statement)]
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


def effects_of(statement: Statement, sets: Sets, *, of_nft: bool = True) -> Sequence[Effect] | None:
    """What a statement does before the rule goes on; ``None`` if it is an :func:`ending`."""
    match statement:
        case SetMark():
            return (_set_mark(statement),)
        case CopyMark():
            return (_copy_mark(statement, of_nft=of_nft),)
        case SetZone():
            return (_set_zone(statement.zone),)
        case NoTrack():
            return (_no_track,)
        case AddToSet():
            return (_add_to(set_key(sets, statement.name, ipset=statement.ipset)),)
        case ValueMap(action="mark" | "ct mark"):
            return (_mark_by_map(statement, sets),)
        case NoEffect():
            return ()
    return None


def _set_mark(statement: SetMark) -> Effect:
    """``(mark & ~mask) ^ value`` (mark_tg in net/netfilter/xt_mark.c)."""
    keep, flip = ~statement.mask & _ALL, statement.value

    def set_mark(seen: Seen) -> None:
        seen.mark = seen.mark & keep ^ flip

    def set_connection_mark(seen: Seen) -> None:
        seen.connection_mark = seen.connection_mark & keep ^ flip

    return set_mark if statement.of == "packet" else set_connection_mark


def _copy_mark(statement: CopyMark, *, of_nft: bool) -> Effect:
    keep, take, flip = statement.keep, statement.take, statement.flip

    def to_packet(seen: Seen) -> bool | None:
        if seen.tracked is None or seen.tracked.connection is None:
            # nft_ct_get_eval breaks off the rule; connmark_tg goes on and does nothing.
            return False if of_nft else None
        seen.mark = seen.mark & keep ^ seen.connection_mark & take ^ flip
        return None

    def to_connection(seen: Seen) -> None:
        seen.connection_mark = seen.connection_mark & keep ^ seen.mark & take ^ flip

    return to_packet if statement.to == "packet" else to_connection


def _set_zone(zone: int) -> Effect:
    def set_zone(seen: Seen) -> None:
        seen.zone = zone

    return set_zone


def _add_to(key: SetKey) -> Effect:
    def add(seen: Seen) -> None:
        seen.added_to.add(key)

    return add


def _no_track(seen: Seen) -> None:
    seen.notrack = True


def _mark_by_map(statement: ValueMap, sets: Sets) -> Effect:
    made = sets.lookup(
        statement.fields, statement.name, statement.elements, lambda text: number(text, _ALL)
    )

    def mark(seen: Seen) -> bool | None:
        found = made[0](seen) if made is not None else None
        if found is None:
            raise UndecidedError(f"mark by a map of {' . '.join(statement.fields)}")
        if found is False:
            return False
        if statement.action == "mark":
            seen.mark = int(found)
        else:
            seen.connection_mark = int(found)
        return None

    return mark


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
    nat: NatStatement
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


def described(nat: NatStatement) -> str:
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


_NAMES: dict[type[NatStatement], str] = {
    SourceNat: "snat",
    DestinationNat: "dnat",
    Masquerade: "masquerade",
    Redirect: "redirect",
    NetMap: "netmap",
}
