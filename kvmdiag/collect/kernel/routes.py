"""Routes and nexthop objects from their netlink messages.

Source: rtnetlink(7), net/ipv4/fib_semantics.c (fib_dump_info), net/ipv6/route.c,
net/ipv4/nexthop.c, include/uapi/linux/nexthop.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kvmdiag.collect.kernel.addresses import SCOPES
from kvmdiag.collect.kernel.attributes import (
    Layout,
    address,
    decode,
    flag,
    nest,
    number,
    raw,
)
from kvmdiag.collect.kernel.nexthops import BLACKHOLE, resolved
from kvmdiag.model.stack import NextHop, NexthopObject, Route

_TYPES = {
    1: "unicast",
    2: "local",
    3: "broadcast",
    4: "anycast",
    5: "multicast",
    6: "blackhole",
    7: "unreachable",
    8: "prohibit",
    9: "throw",
}
_PROTOCOLS = {
    0: "unspec",
    1: "redirect",
    2: "kernel",
    3: "boot",
    4: "static",
    9: "ra",
    11: "zebra",
    12: "bird",
    15: "xorp",
    16: "dhcp",
    18: "keepalived",
    42: "babel",
    186: "bgp",
    187: "isis",
    188: "ospf",
    189: "rip",
    192: "eigrp",
}
_HOP_FLAGS = {1: "dead", 2: "pervasive", 4: "onlink", 16: "linkdown"}
_CLONED = 0x200
_HEADER = struct.Struct("=BBBBBBBBI")
_METRICS: Layout = {2: ("mtu", number), 8: ("advertised_mss", number)}


def _via(data: bytes) -> str | None:
    """An address behind its family (struct rtvia)."""
    return address(data[2:])


_ROUTE: Layout = {
    1: ("destination", address),
    2: ("source", address),
    4: ("oif", number),
    5: ("gateway", address),
    6: ("metric", number),
    7: ("preferred_source", address),
    8: ("metrics", nest(_METRICS)),
    9: ("multipath", raw),
    15: ("table", number),
    18: ("via", _via),
    22: ("encap", raw),
    30: ("nexthop", number),
}
_HOP = struct.Struct("=HBBi")
_NEXTHOP_HEADER = struct.Struct("=BBBBI")
_NEXTHOP: Layout = {
    1: ("id", number),
    2: ("group", raw),
    4: ("blackhole", flag),
    5: ("oif", number),
    6: ("gateway", address),
    8: ("encap", raw),
    11: ("fdb", flag),
}
_MEMBER = struct.Struct("=IBBH")


def routes(
    messages: Sequence[bytes],
    names: Mapping[int, str],
    nexthops: Sequence[NexthopObject] | None = (),
) -> tuple[Route, ...]:
    """The routes of all tables, in the kernel's order.

    Raises:
        UnresolvedNextHop: a route uses a nexthop object that is not among ``nexthops``.

    """
    objects = {one.id: one for one in nexthops or ()}
    found = []
    for message in messages:
        header = _HEADER.unpack_from(message)
        if not header[-1] & _CLONED:
            found.append(_route(header, decode(message, _ROUTE, _HEADER.size), names, objects))
    return tuple(found)


def nexthops(messages: Sequence[bytes], names: Mapping[int, str]) -> tuple[NexthopObject, ...]:
    """The nexthop objects by rising number."""
    found = []
    for message in messages:
        *_, flags = _NEXTHOP_HEADER.unpack_from(message)
        fields = decode(message, _NEXTHOP, _NEXTHOP_HEADER.size)
        members = fields.get("group", b"")
        single = not members and not fields.get("blackhole")
        found.append(
            NexthopObject(
                id=fields["id"],
                next_hop=_next_hop(fields, fields.get("oif", 0), flags, names) if single else None,
                group=tuple(_members(members)),
                blackhole=fields.get("blackhole", False),
                fdb=fields.get("fdb", False),
            )
        )
    return tuple(sorted(found, key=lambda one: one.id))


def _route(
    header: Sequence[int],
    fields: Mapping[str, Any],
    names: Mapping[int, str],
    objects: Mapping[int, NexthopObject],
) -> Route:
    family, length, source_length, tos, table, protocol, scope, kind, flags = header
    anywhere = "::" if family == socket.AF_INET6 else "0.0.0.0"  # noqa: S104 - a default route
    metrics = fields.get("metrics", {})
    source = fields.get("source")
    route_type = _TYPES.get(kind, str(kind))
    hops = _next_hops(fields, flags, names)
    nexthop = fields.get("nexthop")
    if nexthop is not None and route_type == BLACKHOLE:
        # The kernel gives a hole to fall into: lo.
        hops = ()
    elif nexthop is not None and not hops and route_type == "unicast":
        # With net.ipv4.nexthop_compat_mode=0 the kernel tells no more than the number.
        route_type, hops = resolved(nexthop, objects)
    return Route(
        destination=f"{fields.get('destination') or anywhere}/{length}",
        table=fields.get("table", table),
        type=route_type,
        scope=SCOPES.get(scope, str(scope)),
        protocol=_PROTOCOLS.get(protocol, str(protocol)),
        metric=fields.get("metric", 0),
        tos=tos,
        source=f"{source}/{source_length}" if source and source_length else None,
        preferred_source=fields.get("preferred_source"),
        mtu=metrics.get("mtu"),
        advertised_mss=metrics.get("advertised_mss"),
        next_hops=hops,
        nexthop=nexthop,
    )


def _next_hops(
    fields: Mapping[str, Any], flags: int, names: Mapping[int, str]
) -> tuple[NextHop, ...]:
    if "multipath" in fields:
        return tuple(_multipath(fields["multipath"], names))
    if not fields.keys() & {"oif", "gateway", "via"}:
        return ()
    return (_next_hop(fields, fields.get("oif", 0), flags, names),)


def _multipath(data: bytes, names: Mapping[int, str]) -> Iterator[NextHop]:
    start = 0
    while start + _HOP.size <= len(data):
        length, flags, hops, oif = _HOP.unpack_from(data, start)
        if not _HOP.size <= length <= len(data) - start:
            return
        fields = decode(data[start : start + length], _ROUTE, _HOP.size)
        # rtnh_hops is the weight less one.
        yield _next_hop(fields, oif, flags, names, weight=hops + 1)
        start += (length + 3) & ~3


def _next_hop(
    fields: Mapping[str, Any], oif: int, flags: int, names: Mapping[int, str], weight: int = 1
) -> NextHop:
    words = {word for bit, word in _HOP_FLAGS.items() if flags & bit}
    if "encap" in fields:
        words.add("encap")
    return NextHop(
        link=names.get(oif),
        gateway=fields.get("via") or fields.get("gateway"),
        weight=weight,
        flags=frozenset(words),
    )


def _members(data: bytes) -> Iterator[tuple[int, int]]:
    for start in range(0, len(data) - _MEMBER.size + 1, _MEMBER.size):
        member, weight, weight_high, _ = _MEMBER.unpack_from(data, start)
        # It is kept less one; the upper byte came with 6.12 (struct nexthop_grp).
        yield member, (weight_high << 8 | weight) + 1
