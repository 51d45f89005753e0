"""Which link a socket serves, and whether it wants IPv6 only: what only sock_diag tells.

Asking makes the kernel load the module that answers (sock_diag.c, inet_diag.c), so it is asked
only where that is there. Source: sock_diag(7), include/uapi/linux/inet_diag.h,
net/ipv4/inet_diag.c (inet_diag_msg_common_fill, inet_diag_msg_attrs_fill), udp_diag.c.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from kvmdiag.collect.kernel.attributes import Layout, decode, flag
from kvmdiag.model.activity import ListeningSocket
from kvmdiag.system.modules import is_there
from kvmdiag.system.netlink import SOCK_DIAG, Netlink

_BY_FAMILY = 20
_REQUEST = struct.Struct("=BBBxI48x")
# struct inet_diag_msg, of which the address, the link and, at the end, the inode are looked at.
_ANSWER = struct.Struct("=BBBBHH16s16sI8x16xI")
_LISTEN, _UNCONNECTED = 10, 7
_ASKED = (
    (socket.IPPROTO_TCP, 1 << _LISTEN, "tcp_diag"),
    (socket.IPPROTO_UDP, 1 << _UNCONNECTED, "udp_diag"),
)
_ATTRIBUTES: Layout = {11: ("only_v6", flag)}


@dataclass(frozen=True)
class Bound:
    """The index of the one link a socket serves, 0 for all; whether it takes IPv6 only."""

    link: int
    only_v6: bool


def read_bound() -> dict[int, Bound]:
    """By the inode of each socket that listens; none where the kernel does not tell.

    Raises:
        OSError: the kernel refused.

    """
    found: dict[int, Bound] = {}
    if not all(is_there(module) for module in ("inet_diag", *(m for _, _, m in _ASKED))):
        return found
    with Netlink(SOCK_DIAG) as kernel:
        for family in (socket.AF_INET, socket.AF_INET6):
            for protocol, states, _ in _ASKED:
                body = _REQUEST.pack(family, protocol, 0, states)
                found |= bound(kernel.dump(_BY_FAMILY, body))
    return found


def with_links(
    sockets: Sequence[ListeningSocket], known: Mapping[int, Bound] | None, names: Mapping[int, str]
) -> tuple[ListeningSocket, ...]:
    """The sockets with the links they serve; those the kernel did not tell of are as they were."""

    def told(one: ListeningSocket) -> ListeningSocket:
        found = (known or {}).get(one.inode)
        if found is None or (found.link and found.link not in names):
            return one
        links = (names[found.link],) if found.link else ()
        return replace(one, links=links, only_v6=found.only_v6)

    return tuple(map(told, sockets))


def bound(messages: Sequence[bytes]) -> Mapping[int, Bound]:
    """What the answers say."""
    found = {}
    for message in messages:
        *_, link, inode = _ANSWER.unpack_from(message)
        told = decode(message, _ATTRIBUTES, _ANSWER.size)
        found[inode] = Bound(link, told.get("only_v6", False))
    return found
