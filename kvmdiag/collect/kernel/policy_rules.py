"""Policy rules from RTM_NEWRULE messages.

Source: ip-rule(8), net/core/fib_rules.c (fib_nl_fill_rule), include/uapi/linux/fib_rules.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Mapping, Sequence

from kvmdiag.collect.kernel.attributes import Layout, address, decode, each, number, raw, text
from kvmdiag.model.stack import PolicyRule

_HEADER = struct.Struct("=BBBBBBBBI")
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


def policy_rules(messages: Sequence[bytes]) -> tuple[PolicyRule, ...]:
    """The rules in the order the kernel tries them, IPv4 before IPv6."""
    return tuple(_rule(message) for message in messages)


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
