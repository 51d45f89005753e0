"""Addresses from RTM_NEWADDR and neighbours from RTM_NEWNEIGH messages.

Source: rtnetlink(7), include/uapi/linux/if_addr.h, include/uapi/linux/neighbour.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping, Sequence
from ipaddress import ip_address

from kvmdiag.collect.kernel.attributes import Layout, address, decode, mac, number
from kvmdiag.model.stack import Address, Neighbour

SCOPES = {0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere"}
NEIGHBOUR_HEADER = struct.Struct("=BxxxiHBB")
_ADDRESS_HEADER = struct.Struct("=BBBBi")
_ADDRESS: Layout = {1: ("far", address), 2: ("near", address), 8: ("flags", number)}
_IFA_F_SECONDARY = 0x01
# The bit of "secondary" means "temporary" in IPv6; "permanent" is what has no end.
_FLAGS = {
    0x02: "nodad",
    0x04: "optimistic",
    0x08: "dadfailed",
    0x10: "home",
    0x20: "deprecated",
    0x40: "tentative",
    0x100: "mngtmpaddr",
    0x200: "noprefixroute",
    0x400: "autojoin",
    0x800: "stable-privacy",
}
_PERMANENT = 0x80
_NEIGHBOUR: Layout = {1: ("address", address), 2: ("mac", mac)}
_NUD = {
    0x01: "incomplete",
    0x02: "reachable",
    0x04: "stale",
    0x08: "delay",
    0x10: "probe",
    0x20: "failed",
    0x40: "noarp",
    0x80: "permanent",
}
_NUD_NOARP = 0x40
_NTF_PROXY, _NTF_EXT_LEARNED, _NTF_ROUTER = 0x08, 0x10, 0x80


def addresses(messages: Sequence[bytes], names: Mapping[int, str]) -> tuple[Address, ...]:
    """All addresses, link by link, IPv4 before IPv6, each in the kernel's order."""
    found = [one for message in messages if (one := _address(message, names)) is not None]
    order = {name: position for position, name in enumerate(names.values())}
    return tuple(sorted(found, key=lambda address: order[address.link]))


def neighbours(
    messages: Sequence[bytes], proxies: Sequence[bytes], names: Mapping[int, str]
) -> tuple[Neighbour, ...]:
    """All entries as ``ip neigh`` lists them, then those answered for others.

    Link by link, IPv4 before IPv6, by rising address: the kernel's own order is that of a
    table hashed with a random number.
    """
    found = []
    order = {name: position for position, name in enumerate(names.values())}
    for message in (*messages, *proxies):
        family, index, state, flags, _ = NEIGHBOUR_HEADER.unpack_from(message)
        fields = decode(message, _NEIGHBOUR, NEIGHBOUR_HEADER.size)
        link, where = names.get(index), fields.get("address")
        if link is None or where is None:
            continue
        proxy = bool(flags & _NTF_PROXY)
        # The kernel makes these for multicast and loopback; they say nothing of a neighbour.
        if state == _NUD_NOARP and not proxy and _nobody(link, where):
            continue
        entry = Neighbour(
            link=link,
            address=where,
            mac=fields.get("mac") or None,
            state=_NUD.get(state, "none"),
            proxy=proxy,
            router=bool(flags & _NTF_ROUTER),
            learned_elsewhere=bool(flags & _NTF_EXT_LEARNED),
        )
        packed = socket.inet_pton(family, where)
        found.append(((proxy, order[link], family, packed), entry))
    found.sort(key=lambda pair: pair[0])
    return tuple(entry for _, entry in found)


def _address(message: bytes, names: Mapping[int, str]) -> Address | None:
    family, length, flags, scope, index = _ADDRESS_HEADER.unpack_from(message)
    fields = decode(message, _ADDRESS, _ADDRESS_HEADER.size)
    # IFA_ADDRESS is the far end where there is one, and then IFA_LOCAL the near one.
    far = fields.get("far") or fields.get("near")
    near = fields.get("near") or far
    if near is None or index not in names:
        return None
    flags = fields.get("flags", flags)
    version4 = family == socket.AF_INET
    words = {word for bit, word in _FLAGS.items() if flags & bit}
    if not flags & _PERMANENT:
        words.add("dynamic")
    if flags & _IFA_F_SECONDARY and not version4:
        words.add("temporary")
    return Address(
        link=names[index],
        address=near,
        prefix_length=length,
        scope=SCOPES.get(scope, str(scope)),
        secondary=version4 and bool(flags & _IFA_F_SECONDARY),
        peer=far if far != near else None,
        flags=frozenset(words),
    )


def _nobody(link: str, where: str) -> bool:
    address_ = ip_address(where)
    return address_.is_multicast or address_.is_loopback or link == "lo"
