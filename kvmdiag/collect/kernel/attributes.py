"""Netlink attributes: from bytes to values, by tables of those that matter.

A layout names the attributes that are wanted and how each is read; all others are skipped
without being touched, which is what makes thousands of messages quick::

    BRIDGE = {5: ("stp", u32), 7: ("vlan_filtering", flag)}
    decode(data, BRIDGE)   # {"stp": 1}

Attributes of the kernel are of any order and number, a newer kernel's are longer than an
older one's, and some are missing. Source: Documentation/userspace-api/netlink/intro.rst,
include/uapi/linux/netlink.h.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

Reader = Callable[[bytes], Any]
Layout = Mapping[int, tuple[str, Reader]]

_HEAD = struct.Struct("=HH").unpack_from
# Two bits of the type say nothing of which attribute it is.
_KIND = 0x3FFF

number: Reader = partial(int.from_bytes, byteorder=sys.byteorder)
"""An unsigned integer of whatever size it came in."""
big_endian: Reader = partial(int.from_bytes, byteorder="big")
"""An unsigned integer in network order."""
signed: Reader = partial(int.from_bytes, byteorder=sys.byteorder, signed=True)
"""A signed integer of whatever size it came in."""


def decode(data: bytes, layout: Layout, start: int = 0) -> dict[str, Any]:
    """The attributes of ``data`` from ``start`` on that the layout names, by name.

    What does not look like an attribute ends the reading, as in the kernel's own parser.
    """
    found: dict[str, Any] = {}
    end = len(data)
    wanted = layout.get
    while start + 4 <= end:
        length, kind = _HEAD(data, start)
        if not 4 <= length <= end - start:
            break
        field = wanted(kind & _KIND)
        if field is not None:
            name, read = field
            found[name] = read(data[start + 4 : start + length])
        start += (length + 3) & ~3
    return found


def each(data: bytes, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """All attributes in their order, by number: for those that come more than once."""
    end = len(data)
    while start + 4 <= end:
        length, kind = _HEAD(data, start)
        if not 4 <= length <= end - start:
            return
        yield kind & _KIND, data[start + 4 : start + length]
        start += (length + 3) & ~3


def nest(layout: Layout) -> Reader:
    """A reader of attributes within an attribute."""

    def read(data: bytes) -> dict[str, Any]:
        return decode(data, layout)

    return read


def flag(data: bytes) -> bool:
    """Something that is on or off; an attribute without a value is on by being there."""
    return not data or any(data)


def text(data: bytes) -> str:
    """A string; the byte after its end is no part of it."""
    return data.rstrip(b"\0").decode(errors="replace")


def raw(data: bytes) -> bytes:
    """The bytes as they came."""
    return data


def mac(data: bytes) -> str:
    """A hardware address."""
    return data.hex(":")


def address(data: bytes) -> str | None:
    """An IPv4 or IPv6 address, told apart by length; ``None`` for something else."""
    if len(data) == 4:
        return socket.inet_ntop(socket.AF_INET, data)
    if len(data) == 16:
        return socket.inet_ntop(socket.AF_INET6, data)
    return None


def attribute(kind: int, value: bytes) -> bytes:
    """The bytes of one attribute, for a question to the kernel."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
