"""Finds the rules of a long chain that a packet may match, without looking at the others.

Each rule is filed under one thing it requires: an address or network, a device, a port, a
protocol; under several when it accepts several. What requires nothing of the kind is always
looked at. Memory grows with the number of rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import merge
from itertools import pairwise
from typing import Any

from kvmdiag.model.matches import AddressIs, BridgePortIs, InterfaceIs, Match, PortIs, ProtocolIs
from kvmdiag.model.packet import KERNEL_CHOOSES
from kvmdiag.simulate.facts.addresses import bounds
from kvmdiag.simulate.rules.context import PROTOCOLS, Seen

_MOST = 8
"""Keys that one rule is filed under."""

_Key = tuple[Any, ...]
_BITS = {4: 32, 6: 128}


class Index:
    """Positions of rules by what they require."""

    def __init__(self, requirements: Sequence[Iterable[Match]]) -> None:
        self._always: list[int] = []
        self._all = list(range(len(requirements)))
        self._filed: dict[_Key, list[int]] = {}
        self._prefixes: set[tuple[str, int, int]] = set()
        for position, matches in enumerate(requirements):
            keys = min(map(_keys, matches), key=_rank, default=())
            for key in keys:
                self._filed.setdefault(key, []).append(position)
                if key[0] in ("src", "dst"):
                    self._prefixes.add(key[:3])
            if not keys:
                self._always.append(position)

    def candidates(self, seen: Seen) -> list[int]:
        """Positions, in order, of the rules that may match."""
        if KERNEL_CHOOSES in (seen.sport, seen.dport):
            return self._all
        filed = self._filed
        found = [self._always] if self._always else []
        version = seen.version
        bits = _BITS[version]
        for prefix in self._prefixes:
            side, of_version, free = prefix
            if of_version == version:
                number = seen.src if side == "src" else seen.dst
                positions = filed.get((side, version, free, number >> free if free < bits else 0))
                if positions:
                    found.append(positions)
        for key in (
            ("in", seen.in_link),
            ("out", seen.out_link),
            ("in port", seen.at.in_port),
            ("out port", seen.at.out_port),
            ("dport", seen.dport),
            ("sport", seen.sport),
            ("proto", seen.proto),
        ):
            positions = filed.get(key)
            if positions:
                found.append(positions)
        if len(found) == 1:
            return found[0]
        return list(merge(*found))


def _keys(match: Match) -> tuple[_Key, ...]:
    """What to file a rule under that has this match; nothing if it does not narrow it down."""
    keys: tuple[_Key, ...] = ()
    match match:
        case AddressIs(negate=False, of="packet"):
            keys = tuple(_prefix(match.side, text) for text in match.networks)
        case InterfaceIs(negate=False) if not any(name.endswith("*") for name in match.names):
            keys = tuple((match.direction, name) for name in match.names)
        case BridgePortIs(negate=False) if not any(name.endswith("*") for name in match.names):
            keys = tuple((f"{match.direction} port", name) for name in match.names)
        case PortIs(negate=False, side="src" | "dst"):
            if all(first == last for first, last in match.ranges):
                side = "sport" if match.side == "src" else "dport"
                keys = tuple((side, first) for first, _ in match.ranges)
        case ProtocolIs(negate=False):
            keys = tuple(("proto", PROTOCOLS.get(name, name)) for name in match.protocols)
    keys = tuple(dict.fromkeys(keys))
    if len(keys) > _MOST or () in keys or (isinstance(match, AddressIs) and _overlap(keys)):
        return ()
    return keys


def _overlap(keys: tuple[_Key, ...]) -> bool:
    """Whether an address may be in two of the networks: its rule would be found twice."""
    spans = sorted((v, net << free, (net + 1 << free) - 1) for _, v, free, net in keys)
    return any(a[0] == b[0] and a[2] >= b[1] for a, b in pairwise(spans))


def _prefix(side: str, text: str) -> _Key:
    """Side, version, length of the host part and network of a CIDR; ``()`` for a range."""
    span = bounds(text)
    if span is None:
        return ()
    version, first, last = span
    free = (last - first).bit_length()
    if last - first + 1 != 1 << free or first >> free << free != first:
        return ()
    return side, version, free, first >> free


def _rank(keys: tuple[_Key, ...]) -> tuple[int, int]:
    """The less a key has in common with others' the better."""
    if not keys:
        return 9, 0
    kind = keys[0][0]
    if kind in ("src", "dst"):
        # A long prefix tells more than a device's name, a short one less.
        free = max(key[2] - (_BITS[key[1]] - 32) for key in keys)
        return (0 if free <= 8 else 3), free
    order = {"in port": 1, "out port": 1, "out": 2, "in": 2, "dport": 4, "sport": 4, "proto": 5}
    return order[kind], len(keys)
