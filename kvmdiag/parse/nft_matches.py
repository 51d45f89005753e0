"""Matches of ``nft -j``: what is looked at, and what it is compared with.

Source: libnftables-json(5). nft leaves out of its output what follows from an expression
(``tcp dport 80`` is true of TCP only, ``ip saddr`` of IPv4 only); here it is put back, so
that a negated comparison stays false for other packets. What is not understood raises
``ValueError`` and becomes an :class:`UnknownMatch`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from kvmdiag.model.netfilter import (
    AddressIs,
    AddressTypeIs,
    ConntrackStateIs,
    Family,
    FamilyIs,
    IcmpTypeIs,
    InterfaceIs,
    MacIs,
    MarkIs,
    Match,
    PortIs,
    ProtocolIs,
    Side,
    TcpFlagsAre,
    UnknownMatch,
)
from kvmdiag.parse import values
from kvmdiag.parse.nft_text import render_one

Sets = Mapping[str, Sequence[object]]
"""Elements of the table's named sets."""

_FAMILIES = {"ipv4": "ip", "ipv6": "ip6", "ip": "ip", "ip6": "ip6", "arp": "arp"}
_TCP_FLAGS = frozenset({"fin", "syn", "rst", "psh", "ack", "urg"})
_SIDES: dict[str, Side] = {"saddr": "src", "daddr": "dst", "sport": "src", "dport": "dst"}


@dataclass(frozen=True)
class Comparison:
    """A match taken apart: the operands on the right are a flat list."""

    operator: str
    field: Mapping[str, object]
    mask: object
    operands: tuple[object, ...]
    is_set: bool

    @property
    def negate(self) -> bool:
        """True for ``!=`` and ``!``.

        Raises:
            ValueError: the operator is an ordering.

        """
        if self.operator not in ("==", "in", "!=", "!"):
            msg = f"operator {self.operator}"
            raise ValueError(msg)
        return self.operator in ("!=", "!")


def matches(
    expression: Mapping[str, object], family: Family, sets: Sets, before: Sequence[object]
) -> tuple[Match, ...]:
    """What ``{"match": expression}`` means, with what nft left implied.

    ``before`` is the part of the rule that was read already.
    """
    try:
        comparison = _comparison(expression, sets)
        ((kind, inner),) = comparison.field.items()
        if not isinstance(inner, Mapping):
            raise ValueError(kind)
        if kind == "payload":
            return _payload(inner, comparison, family, before)
        if comparison.mask is not None and inner.get("key") != "mark":
            raise ValueError(kind)
        return _BY_KIND[kind](inner, comparison)
    except (ValueError, TypeError, KeyError, AttributeError):
        return (UnknownMatch(text=render_one({"match": expression})),)


def _comparison(expression: Mapping[str, object], sets: Sets) -> Comparison:
    left, right = expression["left"], expression["right"]
    if not isinstance(left, Mapping):
        raise TypeError(left)
    mask = None
    if "&" in left:
        left, mask = left["&"]
    is_set = False
    if isinstance(right, str) and right.startswith("@"):
        right = {"set": sets[right[1:]]}
    if isinstance(right, Mapping) and "set" in right:
        is_set, right = True, right["set"]
    operands = right if isinstance(right, list | tuple) else (right,)
    return Comparison(str(expression["op"]), left, mask, tuple(map(_plain, operands)), is_set)


def _plain(element: object) -> object:
    """An element of a set without its time-out, counter and comment."""
    if isinstance(element, Mapping) and "elem" in element:
        return element["elem"]["val"]
    return element


def _texts(operands: Iterable[object]) -> tuple[str, ...]:
    found = tuple(operands)
    if not all(isinstance(operand, str | int) for operand in found):
        raise ValueError(found)
    return tuple(str(operand) for operand in found)


def _payload(
    inner: Mapping[str, object], comparison: Comparison, family: Family, before: Sequence[object]
) -> tuple[Match, ...]:
    protocol, field = str(inner["protocol"]), str(inner["field"])
    if protocol in ("ip", "ip6"):
        of_family = () if family == protocol else (FamilyIs(families=(protocol,)),)
        if field in ("saddr", "daddr"):
            return (*of_family, _address(protocol, field, comparison))
        if field in ("protocol", "nexthdr") and comparison.mask is None:
            return (*of_family, _protocol(comparison))
    elif protocol == "ether" and comparison.mask is None:
        return (_ether(field, comparison),)
    elif protocol in ("tcp", "udp"):
        return (ProtocolIs(protocols=(protocol,)), _transport(field, comparison))
    elif protocol == "th" and _has_ports(before):
        return (_transport(field, comparison),)
    elif protocol in ("icmp", "icmpv6") and field == "type" and comparison.mask is None:
        types = tuple(
            values.icmp_type(text, v6=protocol == "icmpv6") for text in _texts(comparison.operands)
        )
        kind = IcmpTypeIs(types=types, negate=comparison.negate)
        return (ProtocolIs(protocols=(protocol,)), kind)
    raise ValueError(field)


def _has_ports(before: Sequence[object]) -> bool:
    return any(
        isinstance(part, ProtocolIs) and not part.negate and set(part.protocols) <= {"tcp", "udp"}
        for part in before
    )


def _address(protocol: str, field: str, comparison: Comparison) -> Match:
    family: Family = "ip" if protocol == "ip" else "ip6"
    operands = comparison.operands
    if comparison.mask is not None:
        operands = tuple(f"{operand}/{comparison.mask}" for operand in _texts(operands))
    networks = tuple(_network(operand, family) for operand in operands)
    return AddressIs(side=_SIDES[field], networks=networks, negate=comparison.negate)


def _network(operand: object, family: Family) -> str:
    if isinstance(operand, Mapping):
        ((kind, inner),) = operand.items()
        if kind == "prefix":
            return values.network(f"{inner['addr']}/{inner['len']}", family)
        if kind == "range":
            return values.address_range("-".join(inner), family)
        raise ValueError(kind)
    if not isinstance(operand, str):
        raise TypeError(operand)
    return values.network(operand, family)


def _protocol(comparison: Comparison) -> Match:
    protocols = tuple(values.protocol(text) for text in _texts(comparison.operands))
    return ProtocolIs(protocols=protocols, negate=comparison.negate)


def _ether(field: str, comparison: Comparison) -> Match:
    operands = _texts(comparison.operands)
    if field == "type":
        return _family_is(comparison)
    if any(len(operand) != 17 for operand in operands):
        raise ValueError(operands)
    macs = tuple(operand.lower() for operand in operands)
    return MacIs(side=_SIDES[field], macs=macs, negate=comparison.negate)


def _family_is(comparison: Comparison) -> Match:
    families = tuple(_FAMILIES[text] for text in _texts(comparison.operands))
    return FamilyIs(families=families, negate=comparison.negate)


def _transport(field: str, comparison: Comparison) -> Match:
    if field == "flags":
        return _tcp_flags(comparison)
    if comparison.mask is not None:
        raise ValueError(field)
    if comparison.operator in _ORDERINGS:
        (operand,) = _texts(comparison.operands)
        ordered = _ORDERINGS[comparison.operator](values.number(operand, 65535))
        return PortIs(side=_SIDES[field], ranges=(ordered,))
    ranges = tuple(_port_range(operand) for operand in comparison.operands)
    return PortIs(side=_SIDES[field], ranges=ranges, negate=comparison.negate)


# An empty range, (0, -1) or (65536, 65535), holds no port.
_ORDERINGS: Mapping[str, Callable[[int], tuple[int, int]]] = {
    "<": lambda port: (0, port - 1),
    "<=": lambda port: (0, port),
    ">": lambda port: (port + 1, 65535),
    ">=": lambda port: (port, 65535),
}


def _port_range(operand: object) -> tuple[int, int]:
    if isinstance(operand, Mapping):
        first, last = operand["range"]
        return values.number(str(first), 65535), values.number(str(last), 65535)
    return (values.number(str(operand), 65535),) * 2


def _tcp_flags(comparison: Comparison) -> Match:
    flags = _texts(comparison.operands)
    if comparison.is_set or not set(flags) <= _TCP_FLAGS:
        raise ValueError(flags)
    if comparison.mask is not None:
        mask = _texts(comparison.mask if isinstance(comparison.mask, list) else [comparison.mask])
        if not set(mask) <= _TCP_FLAGS:
            raise ValueError(mask)
        return TcpFlagsAre(mask=mask, flags=flags, negate=comparison.negate)
    if comparison.operator in ("in", "!") and len(flags) == 1:
        return TcpFlagsAre(mask=flags, flags=flags, negate=comparison.negate)
    raise ValueError(flags)


def _meta(inner: Mapping[str, object], comparison: Comparison) -> tuple[Match, ...]:
    key = str(inner["key"])
    directions: dict[str, Literal["in", "out"]] = {"iif": "in", "oif": "out"}
    direction = directions.get(key.removesuffix("name"))
    if direction is not None:
        names = _texts(comparison.operands)
        return (InterfaceIs(direction=direction, names=names, negate=comparison.negate),)
    if key == "l4proto":
        return (_protocol(comparison),)
    if key in ("nfproto", "protocol"):
        return (_family_is(comparison),)
    if key == "mark":
        return (_mark("packet", comparison),)
    raise ValueError(key)


def _mark(of: Literal["packet", "connection"], comparison: Comparison) -> Match:
    (operand,) = _texts(comparison.operands)
    mask = 0xFFFFFFFF if comparison.mask is None else values.number(str(comparison.mask), _ALL)
    value = values.number(operand, _ALL)
    return MarkIs(of=of, value=value, mask=mask, negate=comparison.negate)


_ALL = 0xFFFFFFFF


def _conntrack(inner: Mapping[str, object], comparison: Comparison) -> tuple[Match, ...]:
    key = inner["key"]
    if key == "mark":
        return (_mark("connection", comparison),)
    states = _texts(comparison.operands)
    known = {"new", "established", "related", "invalid", "untracked"}
    # Status bits add up: only a test for a bit, not for the whole word, is understood.
    if key == "status" and comparison.operator in ("in", "!") and not comparison.is_set:
        known = {"snat", "dnat"}
    elif key != "state":
        raise ValueError(key)
    if not set(states) <= known:
        raise ValueError(states)
    return (ConntrackStateIs(states=states, negate=comparison.negate),)


def _fib(inner: Mapping[str, object], comparison: Comparison) -> tuple[Match, ...]:
    flags = inner["flags"]
    sides = set(_texts(flags if isinstance(flags, list) else [flags]))
    limits: dict[str, Literal["in", "out"]] = {"iif": "in", "oif": "out"}
    limit = next((limits[flag] for flag in sides if flag in limits), None)
    (side,) = sides - limits.keys()
    if inner["result"] != "type" or len(sides) > 2:
        raise ValueError(flags)
    types = _texts(comparison.operands)
    return (AddressTypeIs(side=_SIDES[side], types=types, limit=limit, negate=comparison.negate),)


_BY_KIND: Mapping[str, Callable[[Mapping[str, object], Comparison], tuple[Match, ...]]] = {
    "meta": _meta,
    "ct": _conntrack,
    "fib": _fib,
}
