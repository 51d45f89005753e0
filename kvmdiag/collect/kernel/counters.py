"""What the kernel counts of a namespace: protocols, connection tracking, the receive queues.

Source: proc(5), Documentation/networking/snmp_counter.rst, nf_conntrack_standalone.c,
net/core/net-procfs.c (softnet_seq_show), net/core/neighbour.c (neigh_stat_seq_show).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

from kvmdiag.collect.kernel.sockets import NET
from kvmdiag.model.activity import Conntrack

_NETFILTER = Path("/proc/sys/net/netfilter")
# By column; those between have been zero for long.
_SOFTNET = {0: "Processed", 1: "Dropped", 2: "TimeSqueeze", 9: "ReceivedRps", 10: "FlowLimit"}
_CACHES = {"arp_cache": "ArpCache", "ndisc_cache": "NdiscCache"}


def read_counters(net: Path = NET) -> dict[str, int]:
    """Counters by name (``Ip.InAddrErrors``), sorted; what this kernel lacks is not among them.

    ``Softnet``, ``ArpCache`` and ``NdiscCache`` are of the whole machine, the latter two told
    in its first namespace only.

    Raises:
        OSError: they may not be read.

    """
    found = dict(_pairs((net / "snmp").read_text().splitlines()))
    for name, parse in (("netstat", _pairs), ("snmp6", _lines), ("softnet_stat", _softnet)):
        found.update(parse(_read(net / name)))
    for name, prefix in _CACHES.items():
        for column, value in _summed(_read(net / "stat" / name)).items():
            # Sizes, not counts.
            if column != "entries":
                found[f"{prefix}.{column}"] = value
    return dict(sorted(found.items()))


def read_conntrack(net: Path = NET, settings: Path = _NETFILTER) -> Conntrack:
    """How full connection tracking is; a maximum of 0 where this kernel tracks nothing.

    Raises:
        OSError: that may not be read.

    """
    try:
        count = int((settings / "nf_conntrack_count").read_text())
        maximum = int((settings / "nf_conntrack_max").read_text())
    except FileNotFoundError:
        return Conntrack(count=0, maximum=0)
    stats = _summed(_read(net / "stat" / "nf_conntrack"))
    # Told for each CPU, but of all of them.
    stats.pop("entries", None)
    return Conntrack(count=count, maximum=maximum, stats=stats)


def _read(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except FileNotFoundError:
        # Not in this kernel, or not in this namespace.
        return []


def _pairs(lines: Iterable[str]) -> Iterator[tuple[str, int]]:
    """``Ip: Forwarding InAddrErrors`` above ``Ip: 1 7``."""
    for names, values in pairwise(lines):
        group, _, columns = names.partition(":")
        same, _, numbers = values.partition(":")
        if group == same and not columns.split()[0].lstrip("-").isdigit():
            for name, number in zip(columns.split(), numbers.split(), strict=False):
                yield f"{group}.{name}", int(number)


def _lines(lines: Iterable[str]) -> Iterator[tuple[str, int]]:
    """``Ip6InReceives 7``."""
    for line in lines:
        name, _, number = line.partition(" ")
        if number.strip().isdigit():
            group = next(
                (g for g in ("Icmp6", "Ip6", "UdpLite6", "Udp6") if name.startswith(g)), ""
            )
            yield f"{group or 'Other6'}.{name.removeprefix(group)}", int(number)


def _softnet(lines: Iterable[str]) -> Iterator[tuple[str, int]]:
    rows = [[int(word, 16) for word in line.split()] for line in lines]
    for column, name in _SOFTNET.items():
        if rows:
            yield f"Softnet.{name}", sum(row[column] for row in rows if column < len(row))


def _summed(lines: list[str]) -> dict[str, int]:
    """Columns under their names, one row for each CPU, in hexadecimal."""
    if not lines:
        return {}
    names, *rows = (line.split() for line in lines)
    totals: dict[str, int] = dict.fromkeys(names, 0)
    for row in rows:
        for name, number in zip(names, row, strict=False):
            totals[name] += int(number, 16)
    return totals
