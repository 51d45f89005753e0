"""Statements compiled that change the packet's marks, or what becomes of its connection."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kvmdiag.model.statements import (
    AddToSet,
    CopyMark,
    NoEffect,
    NoTrack,
    SetLife,
    SetMark,
    SetZone,
    Statement,
    TakeFromSet,
    ValueMap,
)
from kvmdiag.parse.values import number
from kvmdiag.simulate.rules.context import Seen
from kvmdiag.simulate.rules.sets import SetKey, Sets, set_key

Effect = Callable[[Seen], bool | None]
"""Changes what is seen; ``False`` ends the rule there."""

_ALL = 0xFFFFFFFF
_LONGEST_LIFE = 255


class UndecidedError(Exception):
    """What a statement does to the packet cannot be told."""


def effects_of(statement: Statement, sets: Sets, *, of_nft: bool = True) -> Sequence[Effect] | None:
    """What a statement does before the rule goes on; ``None`` if it ends the rule."""
    match statement:
        case SetMark():
            return (_set_mark(statement),)
        case CopyMark():
            return (_copy_mark(statement, of_nft=of_nft),)
        case SetLife():
            return (_set_life(statement),)
        case SetZone():
            return (_set_zone(statement.zone),)
        case NoTrack():
            return (_no_track,)
        case AddToSet() | TakeFromSet():
            key = set_key(sets, statement.name, ipset=statement.ipset)
            return (_change(key, adds=isinstance(statement, AddToSet)),)
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


def _set_life(statement: SetLife) -> Effect:
    family, value = statement.family, statement.value

    def set_life(seen: Seen) -> bool | None:
        if seen.family != family:
            return False
        seen.life = min(max(seen.life + value, 0), _LONGEST_LIFE) if statement.relative else value
        return None

    return set_life


def _set_zone(zone: int) -> Effect:
    def set_zone(seen: Seen) -> None:
        seen.zone = zone

    return set_zone


def _change(key: SetKey, *, adds: bool) -> Effect:
    def change(seen: Seen) -> None:
        seen.set_changes.add((key, adds))

    return change


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
