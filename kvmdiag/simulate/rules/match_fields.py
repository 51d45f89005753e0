"""Matches on fields as rules name them, alone and as the keys of sets."""

from __future__ import annotations

from kvmdiag.model.matches import FieldIs, InSet, SetContains
from kvmdiag.simulate.rules.context import Matcher, Seen, cannot_tell
from kvmdiag.simulate.rules.field import ABSENT, UNKNOWN
from kvmdiag.simulate.rules.fields import FIELDS
from kvmdiag.simulate.rules.sets import SetKey, Sets, set_key


def field_is(match: FieldIs, _sets: Sets) -> Matcher:
    """Whether the value of a field, masked, is in one of the ranges."""
    field = FIELDS.get(match.field)
    if field is None:
        return cannot_tell
    mask, ranges, negate = match.mask, match.ranges, match.negate

    def is_it(seen: Seen) -> bool | None:
        value = field.get(seen)
        if value is ABSENT:
            return False
        if value is UNKNOWN or not isinstance(value, int):
            return None
        number = value if mask is None else value & mask
        return any(first <= number <= last for first, last in ranges) != negate

    return is_it


def in_set(match: InSet, sets: Sets) -> Matcher:
    """Whether the values of the fields are together an element of a set."""
    made = sets.lookup(match.fields, match.name, match.elements, lambda _text: True)
    if made is None:
        return cannot_tell
    look_up: Matcher = made[0]
    if match.name is not None:
        look_up = _unless_changed(look_up, set_key(sets, match.name, ipset=False))
    return _negated_lookup(match, look_up) if match.negate else look_up


def _unless_changed(look_up: Matcher, key: SetKey) -> Matcher:
    """What a set says; by now that may be otherwise if a rule has added to it, or taken from it."""

    def answer(seen: Seen) -> bool | None:
        found = look_up(seen)
        if found is None:
            return None
        return None if (key, not found) in seen.set_changes else found

    return answer


def _negated_lookup(match: InSet, lookup: Matcher) -> Matcher:
    getters = [FIELDS[field].get for field in match.fields]

    def is_not(seen: Seen) -> bool | None:
        if any(get(seen) is ABSENT for get in getters):
            return False
        found = lookup(seen)
        return None if found is None else not found

    return is_not


def set_contains(match: SetContains, sets: Sets) -> Matcher:
    """Whether an ipset has what its fields name of the packet."""
    look_up = sets.ipset(match.name, match.fields)
    if look_up is None:
        return cannot_tell
    return _unless_changed(look_up, set_key(sets, match.name, ipset=True))
