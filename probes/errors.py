"""What the kernel keeps of an ICMP error for the socket it concerns: who sent it, and what.

Source: ip(7) IP_RECVERR, include/uapi/linux/errqueue.h.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator
from ipaddress import ip_address

import msgspec

from kvmdiag.model.packet import IPAddress

_IP_RECVERR, _IPV6_RECVERR = 11, 25
_EXTENDED = struct.Struct("=IBBBBII")
_ICMP, _ICMP6 = 2, 3
_MOST = 256
_RECEIVED = ((socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR))
_TOO_BIG = {_ICMP: (3, 4), _ICMP6: (2, 0)}


PORT_UNREACHABLE = {4: (3, 3), 6: (1, 4)}
"""Type and code, by IP version (RFC 792, RFC 4443): the machine is there, the service is not."""


class IcmpError(msgspec.Struct, frozen=True, kw_only=True):
    """An ICMP error; ``mtu`` is told by "fragmentation needed" and "packet too big".

    ``quoted`` is what it quotes, from behind the IP header for raw sockets.
    """

    type: int
    code: int
    offender: IPAddress | None
    mtu: int | None
    quoted: bytes = b""

    def is_refusal_of(self, address: IPAddress) -> bool:
        """Whether it is that very machine that says that nobody listens on the port."""
        told = (self.type, self.code) == PORT_UNREACHABLE[address.version]
        return told and self.offender == address

    def __str__(self) -> str:
        who = f" from {self.offender}" if self.offender is not None else ""
        mtu = f", which lets {self.mtu} bytes pass" if self.mtu is not None else ""
        return f"ICMP error {self.type}/{self.code}{who}{mtu}"


def listen_for_errors(sock: socket.socket) -> None:
    """Let ICMP errors wait for ``take`` in the socket's queue."""
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)


def take(sock: socket.socket) -> Iterator[IcmpError]:
    """Empty the queue; what the kernel itself made up is left out."""
    for _ in range(_MOST):
        try:
            quoted, ancillary, _, _ = sock.recvmsg(512, 512, socket.MSG_ERRQUEUE)
        except OSError:
            return
        for level, kind, data in ancillary:
            if (level, kind) in _RECEIVED:
                found = _parsed(data, quoted)
                if found is not None:
                    yield found


def _parsed(data: bytes, quoted: bytes) -> IcmpError | None:
    if len(data) < _EXTENDED.size:
        return None
    _, origin, kind, code, _, info, _ = _EXTENDED.unpack_from(data)
    if origin not in _TOO_BIG:
        return None
    too_big = (kind, code) == _TOO_BIG[origin]
    return IcmpError(
        type=kind,
        code=code,
        offender=_offender(data[_EXTENDED.size :]),
        mtu=info if too_big and info else None,
        quoted=quoted,
    )


def _offender(address: bytes) -> IPAddress | None:
    """From a ``struct sockaddr_in`` or ``sockaddr_in6``."""
    family = int.from_bytes(address[:2], sys.byteorder)
    if family == socket.AF_INET and len(address) >= 8:
        return ip_address(address[4:8])
    if family == socket.AF_INET6 and len(address) >= 24:
        return ip_address(address[8:24])
    return None
