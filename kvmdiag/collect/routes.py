"""Routes from RTM_NEWROUTE and policy rules from RTM_NEWRULE messages.

Source: rtnetlink(7), ip-rule(8), net/ipv4/fib_semantics.c, net/ipv6/route.c,
net/core/fib_rules.c, include/uapi/linux/fib_rules.h.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kvmdiag.collect.addresses import SCOPES
from kvmdiag.collect.netlink import Message, attributes, raw_attributes
from kvmdiag.model.stack import NextHop, PolicyRule, Route

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
_RTA_NH_ID = 30
_ROUTE_HEADER = 12
_RULE_HEADER = 12
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


class UnresolvedNextHop(ValueError):  # noqa: N818 - a state of the kernel, not a fault of ours
    """A route says only the number of a nexthop object, not where it leads."""


def routes(messages: Sequence[Message], names: Mapping[int, str]) -> tuple[Route, ...]:
    """The routes of all tables, in the kernel's order.

    Raises:
        UnresolvedNextHop: the kernel was told not to resolve nexthop objects.

    """
    return tuple(_route(m, names) for m in messages if not m["flags"] & _CLONED)


def policy_rules(messages: Sequence[Message]) -> tuple[PolicyRule, ...]:
    """The rules in the order the kernel tries them, IPv4 before IPv6."""
    return tuple(_rule(message) for message in messages)


def _route(message: Message, names: Mapping[int, str]) -> Route:
    attrs = attributes(message)
    version6 = message["family"] == socket.AF_INET6
    metrics = attributes(attrs.get("RTA_METRICS"))
    route_type = _TYPES.get(message["type"], str(message["type"]))
    source = attrs.get("RTA_SRC")
    return Route(
        destination=f"{attrs.get('RTA_DST', '::' if version6 else '0.0.0.0')}/{message['dst_len']}",  # noqa: S104
        table=attrs.get("RTA_TABLE", message["table"]),
        type=route_type,
        scope=SCOPES.get(message["scope"], str(message["scope"])),
        protocol=_PROTOCOLS.get(message["proto"], str(message["proto"])),
        metric=attrs.get("RTA_PRIORITY", 0),
        tos=message["tos"],
        source=f"{source}/{message['src_len']}" if source and message["src_len"] else None,
        preferred_source=attrs.get("RTA_PREFSRC"),
        mtu=metrics.get("RTAX_MTU"),
        next_hops=_next_hops(message, attrs, names),
    )


def _next_hops(
    message: Message, attrs: dict[str, Any], names: Mapping[int, str]
) -> tuple[NextHop, ...]:
    if "RTA_MULTIPATH" in attrs:
        return tuple(
            # rtnh_hops is the weight less one.
            _next_hop(attributes(hop), hop["oif"], hop["flags"], names, weight=hop["hops"] + 1)
            for hop in attrs["RTA_MULTIPATH"]
        )
    if not attrs.keys() & {"RTA_OIF", "RTA_GATEWAY", "RTA_VIA"}:
        if message["type"] == 1 and _RTA_NH_ID in raw_attributes(message, _ROUTE_HEADER):
            raise UnresolvedNextHop(
                "routes use nexthop objects and net.ipv4.nexthop_compat_mode is 0"
            )
        return ()
    return (_next_hop(attrs, attrs.get("RTA_OIF", 0), message["flags"], names),)


def _next_hop(
    attrs: dict[str, Any], oif: int, flags: int, names: Mapping[int, str], weight: int = 1
) -> NextHop:
    via = attrs.get("RTA_VIA")
    words = {word for bit, word in _HOP_FLAGS.items() if flags & bit}
    if "RTA_ENCAP" in attrs:
        words.add("encap")
    return NextHop(
        link=names.get(oif),
        gateway=via["addr"] if via else attrs.get("RTA_GATEWAY"),
        weight=weight,
        flags=frozenset(words),
    )


def _rule(message: Message) -> PolicyRule:
    attrs = attributes(message)
    raw = raw_attributes(message, _RULE_HEADER)
    action = _ACTIONS.get(message["action"], str(message["action"]))
    suppress = attrs.get("FRA_SUPPRESS_PREFIXLEN", _NONE)
    protocol = attrs.get("FRA_IP_PROTO")
    return PolicyRule(
        priority=attrs.get("FRA_PRIORITY", 0),
        version=6 if message["family"] == socket.AF_INET6 else 4,
        action=action,
        table=attrs.get("FRA_TABLE", message["table"]) if action == "lookup" else None,
        source=_prefix(attrs.get("FRA_SRC"), message["src_len"]),
        destination=_prefix(attrs.get("FRA_DST"), message["dst_len"]),
        iif=attrs.get("FRA_IIFNAME"),
        oif=attrs.get("FRA_OIFNAME"),
        fwmark=attrs.get("FRA_FWMARK"),
        fwmask=attrs.get("FRA_FWMASK"),
        tos=message["tos"],
        protocol=None if protocol is None else _IP_PROTOCOLS.get(protocol, str(protocol)),
        source_ports=_ports(attrs.get("FRA_SPORT_RANGE")),
        destination_ports=_ports(attrs.get("FRA_DPORT_RANGE")),
        goto=attrs.get("FRA_GOTO"),
        suppress_prefix_length=None if suppress == _NONE else suppress,
        invert=bool(message["flags"] & _INVERT),
        unknown=tuple(
            _SELECTORS.get(number, f"selector {number}")
            for number, value in sorted(raw.items())
            if number not in _UNDERSTOOD and not (number in _IDLE and _IDLE[number](value))
        ),
    )


def _prefix(address: str | None, length: int) -> str | None:
    return f"{address}/{length}" if address and length else None


def _ports(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, last = text.split(":")
    return int(first), int(last)
