"""Matches of ebtables: the options and what they mean. Source: ebtables-nft(8), ebt_*.c.

An option that is not in the table below becomes an :class:`UnknownMatch` with its text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal

from kvmdiag.model.matches import (
    AddressIs,
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
    Side,
    UnknownMatch,
)
from kvmdiag.model.netfilter import Family
from kvmdiag.parse import values
from kvmdiag.parse.words import Option

_FAMILIES = {"ipv4": "ip", "ipv6": "ip6", "arp": "arp", "0x800": "ip", "0x86dd": "ip6"}
_MACS = {
    "Unicast": "00:00:00:00:00:00/01:00:00:00:00:00",
    "Multicast": "01:00:00:00:00:00/01:00:00:00:00:00",
    "Broadcast": "ff:ff:ff:ff:ff:ff",
    "BGA": "01:80:c2:00:00:00",
}

_Builder = Callable[[Option], tuple[Match, ...]]


def matches_of(option: Option) -> tuple[Match, ...]:
    """What the option means, or the unknown match that it is."""
    if option.name.startswith(_WATCHERS):
        return ()
    builder = _MATCHES.get(option.name)
    try:
        if builder is not None:
            return builder(option)
    except (ValueError, KeyError):
        pass
    return (UnknownMatch(text=option.text),)


def _interface(direction: Literal["in", "out"]) -> _Builder:
    def builder(option: Option) -> tuple[Match, ...]:
        names = (values.interface(option.value),)
        return (InterfaceIs(direction=direction, names=names, negate=option.negate),)

    return builder


def _mac(side: Side) -> _Builder:
    def builder(option: Option) -> tuple[Match, ...]:
        text = _MACS.get(option.value, option.value).lower()
        if not re.fullmatch(r"[0-9a-f:]{11,17}(/[0-9a-f:]{11,17})?", text):
            raise ValueError(text)
        macs = ("/".join(_padded(mac) for mac in text.split("/")),)
        return (MacIs(side=side, macs=macs, negate=option.negate),)

    return builder


def _padded(mac: str) -> str:
    """Two digits for each byte: ebtables leaves out leading zeros."""
    return ":".join(byte.zfill(2) for byte in mac.split(":"))


def _protocol(option: Option) -> tuple[Match, ...]:
    text = option.value.lower()
    return (FamilyIs(families=(_FAMILIES.get(text, text),), negate=option.negate),)


def _address(side: Side, family: Family) -> _Builder:
    def builder(option: Option) -> tuple[Match, ...]:
        networks = (values.network(option.value, family),)
        return (AddressIs(side=side, networks=networks, negate=option.negate),)

    return builder


def _transport(option: Option) -> tuple[Match, ...]:
    return (ProtocolIs(protocols=(values.protocol(option.value),), negate=option.negate),)


def _ports(side: Side) -> _Builder:
    def builder(option: Option) -> tuple[Match, ...]:
        ranges = values.port_ranges(option.value)
        return (PortIs(side=side, ranges=ranges, negate=option.negate),)

    return builder


def _icmp(*, v6: bool) -> _Builder:
    """A type by name or number; ebtables prints ranges of types and codes as well."""

    def builder(option: Option) -> tuple[Match, ...]:
        text, _, codes = option.value.partition("/")
        first, found, last = text.partition(":")
        low = values.icmp_type(first, v6=v6)[0]
        high = values.number(last, 255) if found else low
        ranges = values.port_range(codes or "0:255")
        kinds = tuple(
            (kind, code)
            for kind in range(low, high + 1)
            for code in (range(ranges[0], ranges[1] + 1) if ranges != (0, 255) else (None,))
        )
        return (IcmpTypeIs(types=kinds, negate=option.negate),)

    return builder


def _service(field: str) -> _Builder:
    def builder(option: Option) -> tuple[Match, ...]:
        number = values.number(option.value, 0xFF)
        return (FieldIs(field=field, ranges=((number, number),), negate=option.negate),)

    return builder


def _never(_option: Option) -> tuple[Match, ...]:
    """What is true of frames only that nobody asks about: gratuitous ARP, IGMP, spanning tree."""
    return (FieldIs(field="exthdr", ranges=()),)


def _mark(option: Option) -> tuple[Match, ...]:
    """``0x1/0x3``, or ``/0x4``: any of these bits (ebt_mark_mt in ebt_mark_m.c)."""
    if option.value.startswith("/"):
        bits = values.number(option.value[1:], values.ALL_BITS)
        ranges = ((1, values.ALL_BITS),)
        return (FieldIs(field="meta mark", ranges=ranges, mask=bits, negate=option.negate),)
    value, mask = values.mark(option.value)
    return (MarkIs(of="packet", value=value, mask=mask, negate=option.negate),)


def _packet_type(option: Option) -> tuple[Match, ...]:
    kind = {"host": 0, "broadcast": 1, "multicast": 2, "otherhost": 3}.get(option.value)
    if kind is None:
        raise ValueError(option.value)
    return (FieldIs(field="meta pkttype", ranges=((kind, kind),), negate=option.negate),)


def _in_set(field: str, value: Callable[[str], str]) -> _Builder:
    """A field of ARP, as nft names it."""

    def builder(option: Option) -> tuple[Match, ...]:
        return (InSet(fields=(field,), elements=(value(option.value),), negate=option.negate),)

    return builder


def _arp_mac(text: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{1,2}(:[0-9a-fA-F]{1,2}){5}", text):
        raise ValueError(text)
    return _padded(text.lower())


def _arp_operation(text: str) -> str:
    known = {"Request": "request", "Reply": "reply", "1": "request", "2": "reply"}
    return known.get(text) or str(_ARP_OPERATIONS.index(text) + 1)


# Those that are numbered from 1 (ebt_arp), of which only the first two are ever asked about.
_ARP_OPERATIONS = (
    "Request", "Reply", "Request_Reverse", "Reply_Reverse", "DRARP_Request", "DRARP_Reply",
    "DRARP_Error", "InARP_Request", "ARP_NAK",
)  # fmt: skip


def _arp_number(most: int) -> Callable[[str], str]:
    return lambda text: str(values.number(text, most))


def _arp_address(text: str) -> str:
    return values.network(text, "ip")


# They note the frame, and are true of every one.
_WATCHERS = ("--log-", "--nflog", "--ulog")

_MATCHES: Mapping[str, _Builder] = {
    "-i": _interface("in"),
    "-o": _interface("out"),
    "-s": _mac("src"),
    "-d": _mac("dst"),
    "-p": _protocol,
    "--ip-src": _address("src", "ip"),
    "--ip-dst": _address("dst", "ip"),
    "--ip6-src": _address("src", "ip6"),
    "--ip6-dst": _address("dst", "ip6"),
    "--ip-proto": _transport,
    "--ip6-proto": _transport,
    "--ip-sport": _ports("src"),
    "--ip-dport": _ports("dst"),
    "--ip6-sport": _ports("src"),
    "--ip6-dport": _ports("dst"),
    "--ip-icmp-type": _icmp(v6=False),
    "--ip6-icmp-type": _icmp(v6=True),
    "--arp-ip-src": _in_set("arp saddr ip", _arp_address),
    "--arp-ip-dst": _in_set("arp daddr ip", _arp_address),
    "--arp-mac-src": _in_set("arp saddr ether", _arp_mac),
    "--arp-mac-dst": _in_set("arp daddr ether", _arp_mac),
    "--arp-op": _in_set("arp operation", _arp_operation),
    "--arp-opcode": _in_set("arp operation", _arp_operation),
    "--arp-htype": _in_set("arp htype", _arp_number(0xFFFF)),
    "--arp-ptype": _in_set("arp ptype", _arp_number(0xFFFF)),
    "--arp-gratuitous": _never,
    "--stp-type": _never,
    "--ip-igmp-type": _never,
    "--ip-tos": _service("ip tos"),
    "--ip6-tclass": _service("ip6 tos"),
    "--logical-in": _in_set("meta ibrname", values.interface),
    "--logical-out": _in_set("meta obrname", values.interface),
    "--mark": _mark,
    "--pkttype-type": _packet_type,
}
