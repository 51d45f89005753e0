"""Matches of ``nft -j``: what is looked at, and what it is compared with.

Source: libnftables-json(5). nft leaves out of its output what follows from an expression
(``tcp dport 80`` is true of TCP only, ``ip saddr`` of IPv4 only); here it is put back, so
that a negated comparison stays false for other packets. Comparisons that have no match of
their own in the model become :class:`FieldIs` or, with a set, :class:`InSet`. What is not
understood raises ``ValueError`` and becomes an :class:`UnknownMatch`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from kvmdiag.model.netfilter import (
    AddressIs,
    AddressTypeIs,
    ConntrackStateIs,
    Family,
    FamilyIs,
    FieldIs,
    IcmpTypeIs,
    InSet,
    InterfaceIs,
    MacIs,
    MarkIs,
    Match,
    PortIs,
    ProtocolIs,
    Ranges,
    ReverseRouteIs,
    Side,
    TcpFlagsAre,
    UnknownMatch,
)
from kvmdiag.parse import values
from kvmdiag.parse.nft_operands import (
    Comparison,
    comparison_of,
    element_text,
    fields_of,
    texts,
)
from kvmdiag.parse.nft_text import render_one

_FAMILIES = {"ipv4": "ip", "ipv6": "ip6", "ip": "ip", "ip6": "ip6", "arp": "arp"}
_ALL_TCP_FLAGS = ("fin", "syn", "rst", "psh", "ack", "urg")
_TCP_FLAGS = frozenset(_ALL_TCP_FLAGS)
_SIDES: dict[str, Side] = {"saddr": "src", "daddr": "dst", "sport": "src", "dport": "dst"}


def matches(
    expression: Mapping[str, object], family: Family, before: Sequence[object]
) -> tuple[Match, ...]:
    """What ``{"match": expression}`` means, with what nft left implied.

    ``before`` is the part of the rule that was read already.
    """
    try:
        right = expression["right"]
        fields = fields_of(expression["left"])
        if isinstance(right, str) and right.startswith("@"):
            return (InSet(fields=fields, name=right[1:], negate=_is_negated(expression)),)
        if len(fields) > 1:
            return (_in_anonymous_set(fields, right, negate=_is_negated(expression)),)
    except (ValueError, TypeError, KeyError, AttributeError):
        fields = ()
    for meaning in (_specific, _general):
        try:
            return meaning(expression, family, before, fields)
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    return (UnknownMatch(text=render_one({"match": expression})),)


def _is_negated(expression: Mapping[str, object]) -> bool:
    operator = expression["op"]
    if operator not in ("==", "in", "!="):
        raise ValueError(operator)
    return operator == "!="


def _in_anonymous_set(fields: tuple[str, ...], right: object, *, negate: bool) -> Match:
    if not isinstance(right, Mapping):
        raise TypeError(right)
    elements = tuple(element_text(element) for element in right["set"])
    return InSet(fields=fields, elements=elements, negate=negate)


def _general(
    expression: Mapping[str, object],
    _family: Family,
    _before: Sequence[object],
    _fields: tuple[str, ...],
) -> tuple[Match, ...]:
    """A number compared with numbers, or a field looked up in a set."""
    comparison = comparison_of(expression)
    (field,) = fields_of(comparison.field)
    mask = None if comparison.mask is None else values.number(str(comparison.mask), _ALL)
    if comparison.operator in _ORDERINGS:
        (operand,) = texts(comparison.operands)
        ranges: Ranges = (_ORDERINGS[comparison.operator](values.number(operand, _ALL)),)
        return (FieldIs(field=field, ranges=ranges, mask=mask),)
    if field not in _NUMBERS:
        if mask is not None or field not in _WORDS:
            raise ValueError(field)
        elements = tuple(element_text(operand) for operand in comparison.operands)
        return (InSet(fields=(field,), elements=elements, negate=comparison.negate),)
    ranges = tuple(_number_range(operand) for operand in comparison.operands)
    return (FieldIs(field=field, ranges=ranges, mask=mask, negate=comparison.negate),)


# Fields whose values nft prints as numbers, and those it has names for.
_NUMBERS = frozenset({
    "arp htype", "arp hlen", "arp plen", "ct mark", "ct original proto-dst",
    "ct original proto-src", "ct reply proto-dst", "ct reply proto-src", "ct zone", "ip frag-off",
    "ip hdrlength", "ip length", "ip ttl", "ip version", "ip6 hoplimit", "ip6 length",
    "meta length", "meta mark", "udp length",
})  # fmt: skip
_WORDS = frozenset({
    "arp daddr ether", "arp daddr ip", "arp operation", "arp ptype", "arp saddr ether",
    "arp saddr ip", "ct direction", "ct original ip daddr", "ct original ip saddr",
    "ct original ip6 daddr", "ct original ip6 saddr", "ct reply ip daddr", "ct reply ip saddr",
    "ct reply ip6 daddr", "ct reply ip6 saddr", "ether type", "icmp code", "icmp type",
    "icmpv6 code", "icmpv6 type", "ip daddr", "ip dscp", "ip protocol", "ip saddr", "ip6 daddr",
    "ip6 dscp", "ip6 nexthdr", "ip6 saddr", "meta ibrname", "meta iifkind", "meta nfproto",
    "meta obrname", "meta oifkind", "meta pkttype", "meta protocol", "th dport", "th sport",
})  # fmt: skip


def _number_range(operand: object) -> tuple[int, int]:
    if isinstance(operand, Mapping) and "prefix" in operand:
        # Of numbers nft writes ranges so only of marks, in sets, and then only where it can.
        inner = operand["prefix"]
        low = values.number(str(inner["addr"]), _ALL)
        return low, low | _ALL >> values.number(str(inner["len"]), 32)
    if isinstance(operand, Mapping):
        first, last = operand["range"]
        return values.number(str(first), _ALL), values.number(str(last), _ALL)
    return (values.number(str(operand), _ALL),) * 2


def _specific(
    expression: Mapping[str, object],
    family: Family,
    before: Sequence[object],
    _fields: tuple[str, ...],
) -> tuple[Match, ...]:
    """A comparison that the model has a match of its own for."""
    comparison = comparison_of(expression)
    ((kind, inner),) = comparison.field.items()
    if not isinstance(inner, Mapping):
        raise ValueError(kind)
    if kind == "exthdr":
        return _extension_header(comparison)
    if kind == "payload":
        return _payload(inner, comparison, family, before)
    if comparison.mask is not None and inner.get("key") != "mark":
        raise ValueError(kind)
    return _BY_KIND[kind](inner, comparison)


def _extension_header(comparison: Comparison) -> tuple[Match, ...]:
    """A header that none of our packets has: it is missing, and has no field to compare."""
    if comparison.operands[0] is False:
        return (FamilyIs(families=("ip6",)),)
    return (FieldIs(field="exthdr", ranges=()),)


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
            values.icmp_type(text, v6=protocol == "icmpv6") for text in texts(comparison.operands)
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
        operands = tuple(f"{operand}/{comparison.mask}" for operand in texts(operands))
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
    protocols = tuple(values.protocol(text) for text in texts(comparison.operands))
    return ProtocolIs(protocols=protocols, negate=comparison.negate)


def _ether(field: str, comparison: Comparison) -> Match:
    operands = texts(comparison.operands)
    if field == "type":
        return _family_is(comparison)
    if any(len(operand) != 17 for operand in operands):
        raise ValueError(operands)
    macs = tuple(operand.lower() for operand in operands)
    return MacIs(side=_SIDES[field], macs=macs, negate=comparison.negate)


def _family_is(comparison: Comparison) -> Match:
    # An ethertype that has no name here is that of a packet no walk follows.
    families = tuple(_FAMILIES.get(text, text) for text in texts(comparison.operands))
    return FamilyIs(families=families, negate=comparison.negate)


def _transport(field: str, comparison: Comparison) -> Match:
    if field == "flags":
        return _tcp_flags(comparison)
    if comparison.mask is not None:
        raise ValueError(field)
    if comparison.operator in _ORDERINGS:
        (operand,) = texts(comparison.operands)
        first, last = _ORDERINGS[comparison.operator](values.number(operand, 65535))
        return PortIs(side=_SIDES[field], ranges=((first, min(last, 65535)),))
    ranges = tuple(_port_range(operand) for operand in comparison.operands)
    return PortIs(side=_SIDES[field], ranges=ranges, negate=comparison.negate)


# An empty range, such as (0, -1), holds no number.
_ORDERINGS: Mapping[str, Callable[[int], tuple[int, int]]] = {
    "<": lambda number: (0, number - 1),
    "<=": lambda number: (0, number),
    ">": lambda number: (number + 1, _ALL),
    ">=": lambda number: (number, _ALL),
}


def _port_range(operand: object) -> tuple[int, int]:
    if isinstance(operand, Mapping):
        first, last = operand["range"]
        return values.number(str(first), 65535), values.number(str(last), 65535)
    return (values.number(str(operand), 65535),) * 2


def _tcp_flags(comparison: Comparison) -> Match:
    flags = texts(comparison.operands)
    if comparison.is_set or not set(flags) <= _TCP_FLAGS:
        raise ValueError(flags)
    if comparison.mask is not None:
        mask = texts(comparison.mask if isinstance(comparison.mask, list) else [comparison.mask])
        if not set(mask) <= _TCP_FLAGS:
            raise ValueError(mask)
        return TcpFlagsAre(mask=mask, flags=flags, negate=comparison.negate)
    if comparison.operator in ("in", "!") and len(flags) == 1:
        return TcpFlagsAre(mask=flags, flags=flags, negate=comparison.negate)
    if comparison.operator in ("==", "!="):
        return TcpFlagsAre(mask=_ALL_TCP_FLAGS, flags=flags, negate=comparison.negate)
    raise ValueError(flags)


def _meta(inner: Mapping[str, object], comparison: Comparison) -> tuple[Match, ...]:
    key = str(inner["key"])
    directions: dict[str, Literal["in", "out"]] = {"iif": "in", "oif": "out"}
    direction = directions.get(key.removesuffix("name"))
    if direction is not None:
        names = texts(comparison.operands)
        return (InterfaceIs(direction=direction, names=names, negate=comparison.negate),)
    if key == "l4proto":
        return (_protocol(comparison),)
    if key in ("nfproto", "protocol"):
        return (_family_is(comparison),)
    if key == "mark":
        return (_mark("packet", comparison),)
    raise ValueError(key)


def _mark(of: Literal["packet", "connection"], comparison: Comparison) -> Match:
    (operand,) = texts(comparison.operands)
    mask = 0xFFFFFFFF if comparison.mask is None else values.number(str(comparison.mask), _ALL)
    value = values.number(operand, _ALL)
    return MarkIs(of=of, value=value, mask=mask, negate=comparison.negate)


_ALL = 0xFFFFFFFF


def _conntrack(inner: Mapping[str, object], comparison: Comparison) -> tuple[Match, ...]:
    key = inner["key"]
    if key == "mark":
        return (_mark("connection", comparison),)
    states = texts(comparison.operands)
    # Status bits add up: only a test for a bit, not for the whole word, is understood.
    if key == "status" and comparison.operator in ("in", "!") and not comparison.is_set:
        return (values.connection_status(states, negate=comparison.negate),)
    if key != "state":
        raise ValueError(key)
    if not set(states) <= {"new", "established", "related", "invalid", "untracked"}:
        raise ValueError(states)
    return (ConntrackStateIs(states=states, negate=comparison.negate),)


def _fib(inner: Mapping[str, object], comparison: Comparison) -> tuple[Match, ...]:
    flags = inner["flags"]
    wanted = set(texts(flags if isinstance(flags, list) else [flags]))
    (side,) = wanted & _SIDES.keys()
    wanted.discard(side)
    if inner["result"] == "type":
        limits: dict[str, Literal["in", "out"]] = {"iif": "in", "oif": "out"}
        limit = limits[wanted.pop()] if wanted else None
        if wanted:
            raise ValueError(flags)
        types = texts(comparison.operands)
        return (
            AddressTypeIs(side=_SIDES[side], types=types, limit=limit, negate=comparison.negate),
        )
    if inner["result"] not in ("oif", "oifname") or wanted - {"iif", "mark"}:
        raise ValueError(flags)
    negate = comparison.negate
    links: tuple[str, ...] = ()
    if comparison.operands in ((False,), ("0",), (0,)):
        negate = not negate
    elif comparison.operands != (True,):
        links = texts(comparison.operands)
    return (
        ReverseRouteIs(
            side=_SIDES[side],
            strict="iif" in wanted,
            mark="mark" in wanted,
            links=links,
            negate=negate,
        ),
    )


_BY_KIND: Mapping[str, Callable[[Mapping[str, object], Comparison], tuple[Match, ...]]] = {
    "meta": _meta,
    "ct": _conntrack,
    "fib": _fib,
}
