"""Addresses from RTM_NEWADDR, neighbours and FDB entries from RTM_NEWNEIGH messages.

Source: rtnetlink(7), include/uapi/linux/neighbour.h, net/bridge/br_fdb.c.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from ipaddress import ip_address

from kvmdiag.collect.netlink import Message, attributes
from kvmdiag.model.stack import Address, FdbEntry, Neighbour

SCOPES = {0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere"}
_IFA_F_SECONDARY = 0x01
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
_NUD_PERMANENT = 0x80
_NTF_SELF = 0x02


def addresses(messages: Sequence[Message], names: Mapping[int, str]) -> tuple[Address, ...]:
    """All addresses, link by link, IPv4 before IPv6, each in the kernel's order."""
    found = [_address(m, names) for m in messages if m["index"] in names]
    order = {name: position for position, name in enumerate(names.values())}
    return tuple(sorted(found, key=lambda address: order[address.link]))


def neighbours(
    messages: Sequence[Message], proxies: Sequence[Message], names: Mapping[int, str]
) -> tuple[Neighbour, ...]:
    """All entries as ``ip neigh`` lists them, and those answered for others."""
    found = []
    for message in messages:
        entry = _neighbour(message, names, proxy=False)
        # The kernel makes these for multicast and loopback; they say nothing of a neighbour.
        made_up = message["state"] == _NUD_NOARP and entry is not None and _nobody(entry)
        if entry is not None and not made_up:
            found.append(entry)
    found += [e for m in proxies if (e := _neighbour(m, names, proxy=True)) is not None]
    return tuple(found)


def fdb(messages: Sequence[Message], names: Mapping[int, str]) -> tuple[FdbEntry, ...]:
    """What bridges know; a device's own filter list (``self``) is not theirs."""
    found = []
    for message in messages:
        attrs = attributes(message)
        bridge = names.get(attrs.get("NDA_MASTER", 0))
        port = names.get(message["ifindex"])
        if bridge is None or port is None or message["flags"] & _NTF_SELF:
            continue
        found.append(
            FdbEntry(
                bridge=bridge,
                port=port,
                mac=attrs["NDA_LLADDR"],
                local=bool(message["state"] & _NUD_PERMANENT),
                static=bool(message["state"] & _NUD_NOARP),
                vlan=attrs.get("NDA_VLAN"),
            )
        )
    return tuple(found)


def _address(message: Message, names: Mapping[int, str]) -> Address:
    attrs = attributes(message)
    far: str = attrs["IFA_ADDRESS"] if "IFA_ADDRESS" in attrs else attrs["IFA_LOCAL"]
    # IFA_ADDRESS is the far end where there is one, and then IFA_LOCAL the near one.
    near: str = attrs.get("IFA_LOCAL", far)
    flags = attrs.get("IFA_FLAGS", message["flags"])
    return Address(
        link=names[message["index"]],
        address=near,
        prefix_length=message["prefixlen"],
        scope=SCOPES.get(message["scope"], str(message["scope"])),
        # The same bit means "temporary" in IPv6.
        secondary=message["family"] == socket.AF_INET and bool(flags & _IFA_F_SECONDARY),
        peer=far if far != near else None,
    )


def _neighbour(message: Message, names: Mapping[int, str], *, proxy: bool) -> Neighbour | None:
    attrs = attributes(message)
    link = names.get(message["ifindex"])
    if link is None or "NDA_DST" not in attrs:
        return None
    return Neighbour(
        link=link,
        address=attrs["NDA_DST"],
        mac=attrs.get("NDA_LLADDR"),
        state=_NUD.get(message["state"], "none"),
        proxy=proxy,
    )


def _nobody(entry: Neighbour) -> bool:
    address = ip_address(entry.address)
    return address.is_multicast or address.is_loopback or entry.link == "lo"
