"""A guest's policy rules from what ``ip -j rule`` prints inside it.

As in ``guest_iproute``, what is not as expected raises ValueError, LookupError or TypeError, and
nothing else. Source: iproute2, ip/iprule.c.
"""

from __future__ import annotations

from typing import Any

from kvmdiag.collect.guest.values import NAME, checked_name, entries, number, prefix, table
from kvmdiag.model.stack import PolicyRule

_ACTIONS = {"6": "blackhole", "7": "unreachable", "8": "prohibit", "3": "nop"}
_IP_PROTOCOLS = {"ipproto-1": "icmp", "ipproto-6": "tcp", "ipproto-17": "udp"}
_RULE_KEYS = frozenset(
    (
        "priority",
        "not",
        "src",
        "srclen",
        "dst",
        "dstlen",
        "tos",
        "fwmark",
        "fwmask",
        "iif",
        "iif_detached",
        "oif",
        "oif_detached",
        "table",
        "suppress_prefixlen",
        "ipproto",
        "sport",
        "sport_start",
        "sport_end",
        "dport",
        "dport_start",
        "dport_end",
        "action",
        "goto",
        "nop",
        "protocol",
        "unresolved",
    )
)


def policy_rules(text: str, version: int) -> tuple[PolicyRule, ...]:
    """Rules from ``ip -j -N rule``, of one IP version."""
    return tuple(_rule(entry, version) for entry in entries(text))


def _rule(entry: dict[str, Any], version: int) -> PolicyRule:
    action = str(entry.get("action", "goto" if "goto" in entry else "lookup"))
    protocol = entry.get("ipproto")
    mark = entry.get("fwmark")
    mask = entry.get("fwmask")
    return PolicyRule(
        priority=number(entry["priority"]),
        version=version,
        action=_ACTIONS.get(action, action[:NAME]),
        table=table(entry["table"]) if "table" in entry else None,
        source=_selector(entry, "src", version),
        destination=_selector(entry, "dst", version),
        iif=checked_name(entry["iif"]) if "iif" in entry else None,
        oif=checked_name(entry["oif"]) if "oif" in entry else None,
        fwmark=None if mark is None else int(str(mark), 0),
        fwmask=None if mask is None else int(str(mask), 0),
        tos=int(str(entry.get("tos", "0")), 0),
        protocol=None
        if protocol is None
        else _IP_PROTOCOLS.get(str(protocol), str(protocol)[:NAME]),
        source_ports=_ports(entry, "sport"),
        destination_ports=_ports(entry, "dport"),
        goto=number(entry["goto"]) if "goto" in entry else None,
        suppress_prefix_length=number(entry["suppress_prefixlen"])
        if "suppress_prefixlen" in entry
        else None,
        invert="not" in entry,
        unknown=tuple(sorted(checked_name(key) for key in entry if key not in _RULE_KEYS)),
    )


def _selector(entry: dict[str, Any], key: str, version: int) -> str | None:
    value = entry.get(key, "all")
    if value == "all":
        return None
    length = entry.get(f"{key}len")
    return prefix(value if length is None else f"{value}/{number(length)}", version)


def _ports(entry: dict[str, Any], key: str) -> tuple[int, int] | None:
    if key in entry:
        return number(entry[key]), number(entry[key])
    if f"{key}_start" in entry:
        return number(entry[f"{key}_start"]), number(entry[f"{key}_end"])
    return None
