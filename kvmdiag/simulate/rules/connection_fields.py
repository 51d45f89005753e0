"""The fields of a packet's connection that rules name: ``ct state``, ``ct original ip saddr``."""

from __future__ import annotations

from collections.abc import Mapping

from kvmdiag.simulate.rules import spans
from kvmdiag.simulate.rules.context import Seen
from kvmdiag.simulate.rules.field import ABSENT, UNKNOWN, Field, Getter, Value, of_version

_STATES = {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64}
_DIRECTIONS = {"original": 0, "reply": 1}


def _state(seen: Seen) -> Value:
    if seen.tracked is not None:
        return _STATES[seen.tracked.state]
    # As for a match: before conntrack a packet without a connection counts as invalid.
    if seen.at.family not in ("ip", "ip6"):
        return UNKNOWN
    return _STATES["untracked" if seen.notrack else "invalid"]


def _direction(seen: Seen) -> Value:
    if seen.tracked is None or seen.tracked.connection is None:
        return ABSENT
    return 0 if seen.tracked.direction == "request" else 1


def _tuple_part(direction: str, part: str) -> Getter:
    """A part of the connection's original or reply tuple."""

    def get(seen: Seen) -> Value:
        if seen.tracked is None or seen.tracked.connection is None:
            return ABSENT
        value = getattr(getattr(seen.tracked.connection, direction), part)
        return ABSENT if value is None else int(value)

    return get


def _status(seen: Seen) -> Value:
    """``ct->status``; of bits that a walk leaves open none is asked for."""
    if seen.tracked is None or seen.tracked.connection is None:
        return ABSENT
    connection = seen.tracked.connection
    words = set(connection.statuses)
    if connection.flow is not None:
        words |= connection.flow.status
    if connection.replied:
        words.add("seen-reply")
    if connection.confirmed:
        words.add("confirmed")
    return sum(bit for word, bit in _STATUS_BITS.items() if word in words)


_STATUS_BITS = {
    "expected": 0x1, "seen-reply": 0x2, "assured": 0x4, "confirmed": 0x8, "snat": 0x10,
    "dnat": 0x20,
}  # fmt: skip


def _connection_mark(seen: Seen) -> Value:
    if seen.tracked is None or seen.tracked.connection is None:
        return ABSENT
    return seen.connection_mark


def _zone(seen: Seen) -> Value:
    if seen.tracked is None or seen.tracked.connection is None:
        return seen.zone
    return seen.tracked.connection.original.zone


def _tuples() -> dict[str, Field]:
    found: dict[str, Field] = {}
    for direction in ("original", "reply"):
        for name, part in (("saddr", "src"), ("daddr", "dst")):
            for family, version, bits in (("ip", 4, 32), ("ip6", 6, 128)):
                get = of_version(version, _tuple_part(direction, part))
                found[f"ct {direction} {family} {name}"] = Field(get, spans.address, bits)
        for name, part in (("proto-src", "sport"), ("proto-dst", "dport")):
            get = _tuple_part(direction, part)
            found[f"ct {direction} {name}"] = Field(get, spans.number, 16)
    return found


CONNECTION_FIELDS: Mapping[str, Field] = {
    **_tuples(),
    "ct state": Field(_state, spans.word(_STATES)),
    "ct status": Field(_status, spans.number),
    "ct mark": Field(_connection_mark, spans.number),
    "ct direction": Field(_direction, spans.word(_DIRECTIONS), 8),
    "ct zone": Field(_zone, spans.number, 16),
}
"""The fields that are understood, by name."""
