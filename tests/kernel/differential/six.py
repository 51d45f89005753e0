"""The same network with IPv6: 10.0.1.2/24 becomes fd00::a00:102/120, and so on.

What there is of IPv4 only (rp_filter, the settings of ARP) is left out.
"""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any, TypeVar

from differential.plan import Case, Stack, Table

_PREFIX = int(IPv6Address("fd00::"))
_ADDRESS = re.compile(r"(\d+\.\d+\.\d+\.\d+)(?:/(\d+)|:(\d+))?")
_WORDS = (
    (re.compile(r"\bip (saddr|daddr)"), r"ip6 \1"),
    (re.compile(r"\bipv4_addr\b"), "ipv6_addr"),
    (re.compile(r"\bfamily inet\b"), "family inet6"),
    (re.compile(r"\bicmp-(host|admin)-prohibited"), "icmp6-adm-prohibited"),
    (re.compile(r"\bicmp type host-prohibited"), "icmpv6 type admin-prohibited"),
    (re.compile(r"\bicmp :"), "ipv6-icmp :"),
)
_SYSCTLS = (
    (re.compile(r"net\.ipv4\.ip_forward"), "net.ipv6.conf.all.forwarding"),
    (re.compile(r"net\.ipv4\.conf\.(.*)\.forwarding"), r"net.ipv6.conf.\1.forwarding"),
    (re.compile(r"net\.ipv4\.icmp_echo_ignore_all"), "net.ipv6.icmp.echo_ignore_all"),
    (re.compile(r"net\.bridge\.bridge-nf-call-iptables"), "net.bridge.bridge-nf-call-ip6tables"),
)
_MATCHES = {"icmp": "icmp6", "ttl": "hl"}
_DOES = {"dnatmap": "dnatmap6"}
_Plain = TypeVar("_Plain")


def six(case: Case) -> Case:
    """The case with IPv6 in the place of IPv4."""
    stacks = tuple(_stack(stack) for stack in case.stacks)
    return replace(case, stacks=stacks, asks=_reworded(case.asks), version=6)


def _stack(stack: Stack) -> Stack:
    tables = tuple(_table(table) for table in stack.tables if table.family != "arp")
    sysctls = tuple((_sysctl(name), value) for name, value in stack.sysctls)
    known = tuple((name, value) for name, value in sysctls if not name.startswith("net.ipv4."))
    return replace(_reworded(stack), tables=tables, sysctls=known)


def _sysctl(name: str) -> str:
    for pattern, new in _SYSCTLS:
        name = pattern.sub(new, name)
    return name


def _table(table: Table) -> Table:
    chains = tuple(
        replace(
            chain,
            rules=tuple(
                replace(
                    rule,
                    matches=tuple((_MATCHES.get(w, w), v, n) for w, v, n in rule.matches),
                    does=tuple(_DOES.get(word, word) for word in rule.does),
                )
                for rule in chain.rules
            ),
        )
        for chain in table.chains
    )
    family = "ip6" if table.family == "ip" else table.family
    return _reworded(replace(table, family=family, chains=chains))


def _reworded(value: _Plain) -> _Plain:
    """The same with every text in it in the words of IPv6."""
    found: Any = value
    if isinstance(value, str):
        found = "ipv6-icmp" if value == "icmp" else _text(value)
    elif isinstance(value, tuple):
        found = tuple(_reworded(item) for item in value)
    elif is_dataclass(value) and not isinstance(value, type):
        kept = ("proto", "version")
        changes = {
            field.name: _reworded(getattr(value, field.name))
            for field in fields(value)
            if field.name not in kept
        }
        found = replace(value, **changes)
    return found  # type: ignore[no-any-return]


def _text(text: str) -> str:
    for pattern, new in _WORDS:
        text = pattern.sub(new, text)
    return _ADDRESS.sub(_address, text)


def _address(found: re.Match[str]) -> str:
    address, length, port = found.groups()
    six = str(IPv6Address(_PREFIX + int(IPv4Address(address))))
    if length is not None:
        return f"{six}/{96 + int(length)}"
    return f"[{six}]:{port}" if port is not None else six
