"""Routes, nexthop objects and policy rules from their netlink messages.

Source: rtnetlink(7), ip-rule(8), net/ipv4/fib_semantics.c (fib_dump_info), net/ipv6/route.c,
net/ipv4/nexthop.c, net/core/fib_rules.c, include/uapi/linux/fib_rules.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from kvmdiag.collect.addresses import SCOPES
from kvmdiag.collect.attributes import (
    Layout,
    address,
    decode,
    each,
    flag,
    nest,
    number,
    raw,
    text,
)
from kvmdiag.model.stack import NextHop, NexthopObject, PolicyRule, Route

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
_BLACKHOLE = "blackhole"
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
_ACTIONS = {
    1: "lookup",
    2: "goto",
    3: "nop",
    6: "blackhole",
    7: "unreachable",
    8: "prohibit",
}
_INVERT = 2
_NONE = 0xFFFFFFFF
_IP_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}
# Read into the model, or of no importance to which packets match.
_UNDERSTOOD = frozenset((0, 1, 2, 3, 4, 6, 10, 11, 14, 15, 16, 17, 18, 21, 22, 23, 24))
_SELECTORS = {
    12: "tun_id",
    13: "suppress_ifgroup",
    19: "l3mdev",
    20: "uidrange",
    25: "dscp",
    26: "flowlabel",
    27: "flowlabel mask",
    28: "sport mask",
    29: "dport mask",
    30: "dscp mask",
}
# What the kernel sends of these although nothing was asked for.
_IDLE: Mapping[int, Callable[[bytes], bool]] = {
    12: lambda value: not any(value),
    13: lambda value: value == b"\xff\xff\xff\xff",
    28: lambda value: value[:2] == b"\xff\xff",
    29: lambda value: value[:2] == b"\xff\xff",
}


_RULE: Layout = {
    1: ("destination", address),
    2: ("source", address),
    3: ("iif", text),
    4: ("goto", number),
    6: ("priority", number),
    10: ("fwmark", number),
    14: ("suppress", number),
    15: ("table", number),
    16: ("fwmask", number),
    17: ("oif", text),
    22: ("protocol", number),
    23: ("source_ports", raw),
    24: ("destination_ports", raw),
}
_PORTS = struct.Struct("=HH")


class UnresolvedNextHop(ValueError):  # noqa: N818 - a state of the kernel, not a fault of ours
    """A route says only the number of a nexthop object, and where that leads is not known."""


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


def policy_rules(messages: Sequence[bytes]) -> tuple[PolicyRule, ...]:
    """The rules in the order the kernel tries them, IPv4 before IPv6."""
    return tuple(_rule(message) for message in messages)


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
    if nexthop is not None and route_type == _BLACKHOLE:
        # The kernel gives a hole to fall into: lo.
        hops = ()
    elif nexthop is not None and not hops and route_type == "unicast":
        # With net.ipv4.nexthop_compat_mode=0 the kernel tells no more than the number.
        route_type, hops = _resolved(nexthop, objects)
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


def _resolved(
    number_: int, objects: Mapping[int, NexthopObject]
) -> tuple[str, tuple[NextHop, ...]]:
    """The type and the ways out of a route that uses that object."""
    found = objects.get(number_)
    if found is None:
        raise UnresolvedNextHop(
            f"a route uses nexthop object {number_}, which the kernel does not tell"
        )
    if found.blackhole:
        return _BLACKHOLE, ()
    if found.next_hop is not None:
        return "unicast", (found.next_hop,)
    hops: list[NextHop] = []
    for member, weight in found.group:
        kind, ways = _resolved(member, objects)
        if kind == _BLACKHOLE:
            # A group of a hole has nothing else in it (nexthop.c, valid_group_nh).
            return _BLACKHOLE, ()
        hops += (
            NextHop(link=way.link, gateway=way.gateway, weight=weight, flags=way.flags)
            for way in ways
        )
    return "unicast", tuple(hops)


def _members(data: bytes) -> Iterator[tuple[int, int]]:
    for start in range(0, len(data) - _MEMBER.size + 1, _MEMBER.size):
        member, weight, weight_high, _ = _MEMBER.unpack_from(data, start)
        # It is kept less one; the upper byte came with 6.12 (struct nexthop_grp).
        yield member, (weight_high << 8 | weight) + 1


def _rule(message: bytes) -> PolicyRule:
    family, to_length, from_length, tos, table, _, _, kind, flags = _HEADER.unpack_from(message)
    fields = decode(message, _RULE, _HEADER.size)
    action = _ACTIONS.get(kind, str(kind))
    suppress = fields.get("suppress", _NONE)
    protocol = fields.get("protocol")
    return PolicyRule(
        priority=fields.get("priority", 0),
        version=6 if family == socket.AF_INET6 else 4,
        action=action,
        table=fields.get("table", table) if action == "lookup" else None,
        source=_prefix(fields.get("source"), from_length),
        destination=_prefix(fields.get("destination"), to_length),
        iif=fields.get("iif"),
        oif=fields.get("oif"),
        fwmark=fields.get("fwmark"),
        fwmask=fields.get("fwmask"),
        tos=tos,
        protocol=None if protocol is None else _IP_PROTOCOLS.get(protocol, str(protocol)),
        source_ports=_ports(fields.get("source_ports")),
        destination_ports=_ports(fields.get("destination_ports")),
        goto=fields.get("goto"),
        suppress_prefix_length=None if suppress == _NONE else suppress,
        invert=bool(flags & _INVERT),
        unknown=tuple(
            _SELECTORS.get(kind_, f"selector {kind_}")
            for kind_, value in sorted(each(message, _HEADER.size))
            if kind_ not in _UNDERSTOOD and not (kind_ in _IDLE and _IDLE[kind_](value))
        ),
    )


def _prefix(network: str | None, length: int) -> str | None:
    return f"{network}/{length}" if network and length else None


def _ports(data: bytes | None) -> tuple[int, int] | None:
    if data is None:
        return None
    first, last = _PORTS.unpack_from(data)
    return first, last
