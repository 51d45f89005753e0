"""Who listens: TCP sockets that listen, and UDP sockets open to anybody.

Read from ``/proc/thread-self/net``, not by sock_diag, which may not be there.
Source: proc(5), net/ipv4/tcp_ipv4.c (get_openreq4, listeners come first), net/ipv4/udp.c.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from kvmdiag.model.activity import ListeningSocket
from kvmdiag.model.link_kinds import Process

NET = Path("/proc/thread-self/net")
_LISTEN, _UNCONNECTED = "0A", "07"
# More than this is not looked at: a host with so many UDP sockets has other worries.
_MOST = 65536
_Socket = tuple[str, int, str, int, int]


def read_sockets(
    holders: Mapping[int, tuple[Process, ...]], complete: bool, net: Path = NET
) -> tuple[ListeningSocket, ...]:
    """All of them, sorted by protocol, port and address.

    Args:
        holders: the processes that hold a socket, by its inode.
        complete: whether ``holders`` knows all; else those of a socket it lacks are unknown.
        net: where the lists are.

    Raises:
        OSError: the lists of IPv4 are not there.
        ValueError: there are too many.

    """
    found: list[_Socket] = []
    for protocol, state in (("tcp", _LISTEN), ("udp", _UNCONNECTED)):
        for name in (protocol, f"{protocol}6"):
            try:
                with open(net / name, encoding="ascii", errors="replace") as lines:
                    found += _listening(lines, protocol, state)
            except FileNotFoundError:
                # A kernel without IPv6.
                if not name.endswith("6"):
                    raise
    return tuple(
        ListeningSocket(
            protocol=protocol,
            address=address,
            port=port,
            uid=uid,
            inode=inode,
            processes=holders.get(inode, () if complete else None),
        )
        for protocol, port, address, uid, inode in sorted(found)
    )


def _listening(lines: Iterable[str], protocol: str, wanted: str) -> Iterator[_Socket]:
    for number, line in enumerate(lines):
        words = line.split()
        if number == 0 or len(words) < 10:
            continue
        if words[3] != wanted:
            if protocol == "tcp":
                # Connections come after all that listen, and there may be very many.
                return
            continue
        if number > _MOST:
            raise ValueError(f"there are more than {_MOST} sockets of {protocol}")
        where, _, port = words[1].rpartition(":")
        yield protocol, int(port, 16), _address(where), int(words[7]), int(words[9])


def _address(text: str) -> str:
    """An address printed as 32-bit words in the byte order of the machine."""
    words = (text[start : start + 8] for start in range(0, len(text), 8))
    packed = b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
    return socket.inet_ntop(socket.AF_INET6 if len(packed) == 16 else socket.AF_INET, packed)
