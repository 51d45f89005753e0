"""Counters of one namespace that tell of lost packets, read before and after the probe.

Two readings and their difference; nothing is changed for them. Only rules whose counters
differ are looked into. Source: proc_net(5), net/ipv4/proc.c, include/uapi/linux/snmp.h,
include/uapi/linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from kvmdiag.model.netfilter import Backend, Family, Table
from kvmdiag.probes.evidence.nfnetlink import NFTABLES, Channel, attributes
from kvmdiag.system.programs import run

MOST_RULES = 5000
"""The kernel needs 5 ms for as many; beyond them rules are not read."""

_NET = Path("/proc/thread-self/net")
_GET_CHAIN, _GET_RULE = NFTABLES << 8 | 4, NFTABLES << 8 | 7
_FAMILIES: dict[int, Family] = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_LEGACY: dict[Family, str] = {"ip": "iptables-legacy-save", "ip6": "ip6tables-legacy-save"}

_NAMES = """
IpInHdrErrors IpInAddrErrors IpInUnknownProtos IpInDiscards IpOutDiscards IpOutNoRoutes
IpReasmFails IpFragFails IpExtInNoRoutes IpExtInTruncatedPkts IpExtInCsumErrors
TcpExtIPReversePathFilter TcpExtListenDrops TcpInErrs UdpNoPorts UdpInErrors
UdpRcvbufErrors UdpInCsumErrors IcmpInErrors IcmpInCsumErrors IcmpOutDestUnreachs
IcmpOutTimeExcds IcmpOutRateLimitGlobal IcmpOutRateLimitHost
Ip6InHdrErrors Ip6InTooBigErrors Ip6InNoRoutes Ip6InAddrErrors Ip6InTruncatedPkts
Ip6InDiscards Ip6OutDiscards Ip6OutNoRoutes Ip6FragFails Icmp6InErrors
Icmp6OutDestUnreachs Icmp6OutTimeExcds Icmp6OutPktTooBigs Udp6NoPorts Udp6InErrors
"""
_TELLING = frozenset(_NAMES.split())
_RULE = re.compile(r"\[(\d+):\d+\] -A (\S+)")
_CHAIN = re.compile(r":(\S+) \S+ \[(\d+):\d+\]")
_LINK_FIELDS = {2: "rx_errors", 3: "rx_dropped", 10: "tx_errors", 11: "tx_dropped"}

RuleKey = tuple[Family, Backend | None, str, str, int | None]
"""Family, backend (``None``: of nf_tables), table, chain; handle, or index for legacy; policy
has ``None``."""


class Reading(NamedTuple):
    """Counters at one moment: telling ones by name, those of rules still packed."""

    named: dict[str, int]
    rules: dict[RuleKey, bytes]


def read(tables: Iterable[Table] | None) -> Reading:
    """Of the calling thread's namespace.

    ``tables`` are those that are known to be there; with ``None`` or with too many rules,
    those of rules are left out.

    Raises:
        OSError: the kernel did not answer.
        KvmdiagError: a program that reads legacy tables failed.

    """
    rules: dict[RuleKey, bytes] = {}
    if tables is not None:
        backends = {(table.backend, table.family) for table in tables}
        if any(backend != "iptables-legacy" for backend, _ in backends):
            rules.update(_of_nf_tables())
        for family, program in _LEGACY.items():
            if ("iptables-legacy", family) in backends:
                rules.update(_of_legacy(family, program))
    return Reading({**_protocols(), **_links()}, rules)


def countable(tables: Iterable[Table]) -> bool:
    """Whether reading their counters twice is cheap enough."""
    return sum(len(chain.rules) for table in tables for chain in table.chains) <= MOST_RULES


def grown(before: Reading, after: Reading) -> Iterator[tuple[str | RuleKey, int]]:
    """Names, or keys of rules, and by how much."""
    for name, count in after.named.items():
        if name in before.named and count > before.named[name]:
            yield name, count - before.named[name]
    for key, packed in after.rules.items():
        old = before.rules.get(key)
        if old is not None and old != packed:
            more = _packets(key, packed) - _packets(key, old)
            if more > 0:
                yield key, more


def _protocols() -> dict[str, int]:
    found: dict[str, int] = {}
    for file in ("snmp", "netstat"):
        lines = _lines(file)
        # Two lines per protocol: the names, then the numbers.
        for names, values in zip(lines[::2], lines[1::2], strict=False):
            prefix = names.split(":")[0]
            for name, value in zip(names.split()[1:], values.split()[1:], strict=False):
                if prefix + name in _TELLING:
                    found[prefix + name] = int(value)
    for line in _lines("snmp6"):
        name, _, value = line.partition(" ")
        name = name.strip()
        if name in _TELLING and value.strip().isdecimal():
            found[name] = int(value)
    return found


def _links() -> dict[str, int]:
    found = {}
    for line in _lines("dev")[2:]:
        name, _, rest = line.rpartition(":")
        values = rest.split()
        if len(values) > max(_LINK_FIELDS):
            for at, field in _LINK_FIELDS.items():
                found[f"{name.strip()} {field}"] = int(values[at])
    return found


def _lines(file: str) -> list[str]:
    try:
        return (_NET / file).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []  # a kernel without IPv6, say


def _of_nf_tables() -> Iterator[tuple[RuleKey, bytes]]:
    """Rules and policies with a counter; the value is what holds the counter."""
    channel = Channel()
    try:
        for message in channel.dump(_GET_RULE):
            found = message.attributes
            family = _FAMILIES.get(message.family)
            if family is not None and 4 in found and b"counter\0" in found[4]:
                handle = int.from_bytes(found.get(3, b""), "big")
                yield (family, None, _text(found[1]), _text(found[2]), handle), found[4]
        for message in channel.dump(_GET_CHAIN):
            found = message.attributes
            family = _FAMILIES.get(message.family)
            if family is not None and 8 in found:
                yield (family, None, _text(found[1]), _text(found[3]), None), found[8]
    finally:
        channel.close()


def _of_legacy(family: Family, program: str) -> Iterator[tuple[RuleKey, bytes]]:
    """``*TABLE``, ``:CHAIN POLICY [packets:bytes]`` and ``[packets:bytes] -A CHAIN ...``."""
    table = ""
    numbers: Counter[tuple[str, str]] = Counter()
    for line in run((program, "-c")).stdout.splitlines():
        rule, chain = _RULE.match(line), _CHAIN.match(line)
        if line.startswith("*"):
            table = line[1:].strip()
        elif rule:
            index = numbers[table, rule[2]]
            numbers[table, rule[2]] += 1
            yield (family, "iptables-legacy", table, rule[2], index), _packed(rule[1])
        elif chain:
            yield (family, "iptables-legacy", table, chain[1], None), _packed(chain[2])


def _packed(digits: str) -> bytes:
    return int(digits).to_bytes(8, "big")


def _packets(key: RuleKey, packed: bytes) -> int:
    """The counter in what a reading kept."""
    if key[1] is not None:
        return int.from_bytes(packed, "big")
    if key[4] is None:
        return int.from_bytes(attributes(packed).get(2, b""), "big")
    return _of_expressions(packed)


def _of_expressions(packed: bytes) -> int:
    """Of a rule's first counter. The expressions are a list of attributes of one number."""
    while len(packed) >= 4:
        (length,) = struct.unpack_from("=H", packed)
        if not 4 <= length <= len(packed):
            break
        expression = attributes(packed[4:length])
        if expression.get(1) == b"counter\0":
            return int.from_bytes(attributes(expression.get(2, b"")).get(2, b""), "big")
        packed = packed[(length + 3) & ~3 :]
    return 0


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")
