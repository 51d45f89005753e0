"""Matches of ``nft -j`` upon the headers of a packet: addresses, protocol, ports, flags.

Source: libnftables-json(5). What is not understood raises ``ValueError`` or ``TypeError``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from kvmdiag.model.matches import (
    AddressIs,
    FamilyIs,
    IcmpTypeIs,
    MacIs,
    Match,
    PortIs,
    ProtocolIs,
    Side,
    TcpFlagsAre,
)
from kvmdiag.model.netfilter import Family
from kvmdiag.parse import values
from kvmdiag.parse.nft_operands import Comparison, number_range, ordering, texts

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_FAMILIES = {"ipv4": "ip", "ipv6": "ip6", "ip": "ip", "ip6": "ip6", "arp": "arp"}
_ALL_TCP_FLAGS = ("fin", "syn", "rst", "psh", "ack", "urg")
_TCP_FLAGS = frozenset(_ALL_TCP_FLAGS)
SIDES: dict[str, Side] = {"saddr": "src", "daddr": "dst", "sport": "src", "dport": "dst"}


def header(
    inner: Mapping[str, object], comparison: Comparison, family: Family, before: Sequence[object]
) -> tuple[Match, ...]:
    """What a comparison with a field of a header means, with what nft left implied."""
    protocol, field = str(inner["protocol"]), str(inner["field"])
    if protocol in ("ip", "ip6"):
        of_family = () if family == protocol else (FamilyIs(families=(protocol,)),)
        if field in ("saddr", "daddr"):
            return (*of_family, _address(protocol, field, comparison))
        if field in ("protocol", "nexthdr") and comparison.mask is None:
            return (*of_family, protocol_is(comparison))
    elif protocol == "ether":
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
    return AddressIs(side=SIDES[field], networks=networks, negate=comparison.negate)


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


def protocol_is(comparison: Comparison) -> Match:
    """A comparison with protocols."""
    protocols = tuple(values.protocol(text) for text in texts(comparison.operands))
    return ProtocolIs(protocols=protocols, negate=comparison.negate)


def _ether(field: str, comparison: Comparison) -> Match:
    if field == "type" and comparison.mask is None:
        return family_is(comparison)
    macs = tuple(_mac(operand, comparison.mask) for operand in comparison.operands)
    return MacIs(side=SIDES[field], macs=macs, negate=comparison.negate)


def _mac(operand: object, mask: object) -> str:
    """A MAC address, with a mask where only some of its bits are compared."""
    if isinstance(operand, Mapping):
        inner, bits = operand["prefix"], (1 << 48) - 1
        operand, mask = inner["addr"], bits ^ bits >> values.number(str(inner["len"]), 48)
        mask = mask.to_bytes(6).hex(":")
    found = [str(part).lower() for part in (operand, mask) if part is not None]
    if not all(_MAC.fullmatch(part) for part in found):
        raise ValueError(found)
    return "/".join(found)


def family_is(comparison: Comparison) -> Match:
    """A comparison with families or ethertypes."""
    # An ethertype that has no name here is that of a packet no walk follows.
    families = tuple(_FAMILIES.get(text, text) for text in texts(comparison.operands))
    return FamilyIs(families=families, negate=comparison.negate)


def _transport(field: str, comparison: Comparison) -> Match:
    if field == "flags":
        return _tcp_flags(comparison)
    if comparison.mask is not None:
        raise ValueError(field)
    side, ordered = SIDES[field], ordering(comparison, 0xFFFF)
    if ordered is not None:
        return PortIs(side=side, ranges=(ordered,))
    ranges = tuple(number_range(operand, 0xFFFF) for operand in comparison.operands)
    return PortIs(side=side, ranges=ranges, negate=comparison.negate)


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
