"""Netlink messages written by hand, as include/uapi/linux has them."""

from __future__ import annotations

import struct

from kvmdiag.collect.kernel.attributes import attribute


def u8(value):
    """One byte."""
    return struct.pack("=B", value)


def u16(value):
    """Two bytes in the machine's order."""
    return struct.pack("=H", value)


def u32(value):
    """Four bytes in the machine's order."""
    return struct.pack("=I", value)


def nested(*pairs):
    """Attributes within an attribute: (number, bytes)."""
    return b"".join(attribute(kind, value) for kind, value in pairs)


def link(index, name, *more, kind=None, data=b"", port_of=None, port=b"", family=0):
    """An RTM_NEWLINK message (struct ifinfomsg and attributes)."""
    info = []
    if kind is not None:
        info += [(1, kind.encode() + b"\0"), (2, data)]
    if port_of is not None:
        info += [(4, port_of.encode() + b"\0"), (5, port)]
    pairs = [(3, name.encode() + b"\0"), (4, u32(1500)), *more]
    if info:
        pairs.append((18, nested(*info)))
    return struct.pack("=BxHiII", family, 1, index, 1, 0) + nested(*pairs)
