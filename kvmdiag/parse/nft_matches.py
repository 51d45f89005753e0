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

from kvmdiag.model.matches import (
    AddressTypeIs,
    ConntrackStateIs,
    FamilyIs,
    FieldIs,
    InSet,
    InterfaceIs,
    MarkIs,
    Match,
    ReverseRouteIs,
    UnknownMatch,
)
from kvmdiag.model.netfilter import Family
from kvmdiag.parse import values
from kvmdiag.parse.nft_headers import SIDES, family_is, header, protocol_is
from kvmdiag.parse.nft_operands import (
    Comparison,
    comparison_of,
    element_text,
    fields_of,
    number_range,
    ordering,
    texts,
)
from kvmdiag.parse.nft_text import render_one


def matches(
    expression: Mapping[str, object], family: Family, before: Sequence[object]
) -> tuple[Match, ...]:
    """What ``{"match": expression}`` means, with what nft left implied.

    ``before`` is the part of the rule that was read already.
    """
    try:
        comparison = comparison_of(expression)
    except _NOT_UNDERSTOOD:
        return (UnknownMatch(text=render_one({"match": expression})),)
    for meaning in (_looked_up, _specific, _general):
        try:
            return meaning(comparison, family, before)
        except _NOT_UNDERSTOOD:
            continue
    return (UnknownMatch(text=render_one({"match": expression})),)


_NOT_UNDERSTOOD = (ValueError, TypeError, KeyError, AttributeError)


def _looked_up(
    comparison: Comparison, _family: Family, _before: Sequence[object]
) -> tuple[Match, ...]:
    """One field in a named set, or several together."""
    fields = fields_of(comparison.field)
    if comparison.mask is not None:
        raise ValueError(fields)
    if comparison.set_name is not None:
        return (InSet(fields=fields, name=comparison.set_name, negate=comparison.negate),)
    if len(fields) == 1:
        raise ValueError(fields)
    elements = tuple(map(element_text, comparison.operands))
    return (InSet(fields=fields, elements=elements, negate=comparison.negate),)


def _general(
    comparison: Comparison, _family: Family, _before: Sequence[object]
) -> tuple[Match, ...]:
    """A number compared with numbers, or a field looked up in a set."""
    (field,) = fields_of(comparison.field)
    mask = comparison.mask_bits
    ordered = ordering(comparison)
    if ordered is not None:
        return (FieldIs(field=field, ranges=(ordered,), mask=mask),)
    if field not in _NUMBERS:
        if mask is not None or field not in _WORDS:
            raise ValueError(field)
        elements = tuple(map(element_text, comparison.operands))
        return (InSet(fields=(field,), elements=elements, negate=comparison.negate),)
    ranges = tuple(map(number_range, comparison.operands))
    return (FieldIs(field=field, ranges=ranges, mask=mask, negate=comparison.negate),)


# Fields whose values nft prints as numbers, and those it has names for.
_NUMBERS = frozenset({
    "arp htype", "arp hlen", "arp plen", "ct mark", "ct original proto-dst",
    "ct original proto-src", "ct reply proto-dst", "ct reply proto-src", "ct zone", "ip frag-off",
    "ip hdrlength", "ip length", "ip ttl", "ip version", "ip6 hoplimit", "ip6 length",
    "meta length", "meta mark", "meta skgid", "meta skuid", "udp length",
})  # fmt: skip
_WORDS = frozenset({
    "arp daddr ether", "arp daddr ip", "arp operation", "arp ptype", "arp saddr ether",
    "arp saddr ip", "ct direction", "ct original ip daddr", "ct original ip saddr",
    "ct original ip6 daddr", "ct original ip6 saddr", "ct reply ip daddr", "ct reply ip saddr",
    "ct reply ip6 daddr", "ct reply ip6 saddr", "ether daddr", "ether saddr", "ether type",
    "icmp code", "icmp type", "icmpv6 code", "icmpv6 type", "ip daddr", "ip dscp",
    "ip protocol", "ip saddr", "ip6 daddr", "ip6 dscp", "ip6 nexthdr", "ip6 saddr",
    "meta ibrname", "meta iifkind", "meta nfproto", "meta obrname", "meta oifkind",
    "meta pkttype", "meta protocol", "th dport", "th sport",
})  # fmt: skip


def _specific(
    comparison: Comparison, family: Family, before: Sequence[object]
) -> tuple[Match, ...]:
    """A comparison that the model has a match of its own for."""
    ((kind, inner),) = comparison.field.items()
    if not isinstance(inner, Mapping):
        raise ValueError(kind)
    if kind == "exthdr":
        return _extension_header(comparison)
    if kind == "payload":
        return header(inner, comparison, family, before)
    if comparison.mask is not None and inner.get("key") != "mark":
        raise ValueError(kind)
    return _BY_KIND[kind](inner, comparison)


def _extension_header(comparison: Comparison) -> tuple[Match, ...]:
    """A header that none of our packets has: it is missing, and has no field to compare."""
    if comparison.operands[0] is False:
        return (FamilyIs(families=("ip6",)),)
    return (FieldIs(field="exthdr", ranges=()),)


def _meta(inner: Mapping[str, object], comparison: Comparison) -> tuple[Match, ...]:
    key = str(inner["key"])
    directions: dict[str, Literal["in", "out"]] = {"iif": "in", "oif": "out"}
    direction = directions.get(key.removesuffix("name"))
    if direction is not None:
        names = texts(comparison.operands)
        return (InterfaceIs(direction=direction, names=names, negate=comparison.negate),)
    if key == "l4proto":
        return (protocol_is(comparison),)
    if key in ("nfproto", "protocol"):
        return (family_is(comparison),)
    if key == "mark":
        return (_mark("packet", comparison),)
    raise ValueError(key)


def _mark(of: Literal["packet", "connection"], comparison: Comparison) -> Match:
    (operand,) = texts(comparison.operands)
    mask, value = comparison.mask_bits, values.number(operand, values.ALL_BITS)
    return MarkIs(
        of=of,
        value=value,
        mask=values.ALL_BITS if mask is None else mask,
        negate=comparison.negate,
    )


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
    (side,) = wanted & SIDES.keys()
    wanted.discard(side)
    if inner["result"] == "type":
        limits: dict[str, Literal["in", "out"]] = {"iif": "in", "oif": "out"}
        limit = limits[wanted.pop()] if wanted else None
        if wanted:
            raise ValueError(flags)
        types = texts(comparison.operands)
        return (
            AddressTypeIs(side=SIDES[side], types=types, limit=limit, negate=comparison.negate),
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
            side=SIDES[side],
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
