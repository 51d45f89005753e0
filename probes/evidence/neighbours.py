"""Next hops that do not answer: the packet waits for ARP or ND, and is dropped only seconds later.

An entry that is INCOMPLETE has been asked for in the last three seconds, without an answer.
Source: rtnetlink(7), include/uapi/linux/neighbour.h, net/core/neighbour.c.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address

from kvmdiag.probes.evidence.nfnetlink import attributes
from kvmdiag.system.netlink import Netlink

_GET = 30  # RTM_GETNEIGH
_HEADER = struct.Struct("=BxxxiHBB")
_INCOMPLETE = 0x01
_ADDRESS = 1
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


def waiting(version: int) -> Iterator[tuple[int, str]]:
    """Link, by index, and address of each next hop that is being asked for just now.

    Of the calling thread's namespace.

    Raises:
        OSError: the kernel did not answer.

    """
    family = _FAMILIES[version]
    with Netlink() as kernel:
        for message in kernel.dump(_GET, _HEADER.pack(family, 0, 0, 0, 0)):
            its_family, index, state, _, _ = _HEADER.unpack_from(message)
            address = attributes(message[_HEADER.size :]).get(_ADDRESS)
            if its_family == family and state & _INCOMPLETE and address is not None:
                yield index, str(ip_address(address))
