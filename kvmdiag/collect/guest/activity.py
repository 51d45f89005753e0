"""Who listens in a guest and what its kernel has counted: files of its /proc, read as our own.

They are laid out below a folder, where the readers of the host's own /proc find them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from kvmdiag.collect.kernel.counters import read_conntrack, read_counters
from kvmdiag.collect.kernel.sockets import read_sockets
from kvmdiag.model.activity import Conntrack, ListeningSocket

_NET, _NETFILTER = "/proc/net", "/proc/sys/net/netfilter"
SOCKETS = tuple(f"{_NET}/{name}" for name in ("tcp", "tcp6", "udp", "udp6"))
LISTENING = ("-sH", "-e", " 0A ", "-e", " 07 ", *SOCKETS)
"""What grep is asked, so that a guest with many connections does not print them all."""

COUNTERS = (
    *(f"{_NET}/{name}" for name in ("snmp", "netstat", "snmp6", "softnet_stat")),
    *(f"{_NET}/stat/{name}" for name in ("nf_conntrack", "arp_cache", "ndisc_cache")),
    *(f"{_NETFILTER}/{name}" for name in ("nf_conntrack_count", "nf_conntrack_max")),
)
_HEADER = "  sl  local_address rem_address   st\n"


def sockets(content: Mapping[str, str]) -> tuple[ListeningSocket, ...]:
    """The sockets that listen; by which processes is not read.

    Raises:
        ValueError: the lists were not read.

    """
    lists = {path: _HEADER + content[path] for path in SOCKETS if path in content}
    with _laid_out(lists) as folder:
        return read_sockets({}, False, folder / "proc/net")


def counters(content: Mapping[str, str]) -> dict[str, int]:
    """Counters of protocols, by the names that the host's have."""
    with _laid_out(content) as folder:
        return read_counters(folder / "proc/net")


def conntrack(content: Mapping[str, str]) -> Conntrack:
    """How full connection tracking is."""
    with _laid_out(content) as folder:
        return read_conntrack(folder / "proc/net", folder / "proc/sys/net/netfilter")


@contextmanager
def _laid_out(content: Mapping[str, str]) -> Iterator[Path]:
    """A folder with those of the files that have to do with it; their names are our own.

    Raises:
        ValueError: the reader misses one of them.

    """
    with tempfile.TemporaryDirectory(prefix="kvmdiag-guest-") as name:
        for path in (*SOCKETS, *COUNTERS):
            if path in content:
                file = Path(name, path.lstrip("/"))
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(content[path] + "\n", encoding="ascii", errors="replace")
        try:
            yield Path(name)
        except FileNotFoundError as error:
            missing = Path(error.filename or "").name
            raise ValueError(f"it does not show {missing} in /proc") from None
