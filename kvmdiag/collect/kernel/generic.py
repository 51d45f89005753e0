"""What only generic netlink tells of links: offloads (ethtool) and 802.11 (nl80211).

Families are looked for in the list of all: asking for one by name may load a module
(genetlink.c, ctrl_getfamily). Source: Documentation/networking/ethtool-netlink.rst,
include/uapi/linux/genetlink.h, ethtool_netlink.h, nl80211.h.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from kvmdiag.collect.kernel.attributes import (
    Layout,
    attribute,
    decode,
    each,
    flag,
    nest,
    number,
    raw,
    text,
)
from kvmdiag.model.link_kinds import Wireless
from kvmdiag.system.netlink import GENERIC, Netlink

_CONTROL, _GET_FAMILY = 16, 3
_FAMILY: Layout = {1: ("id", number), 2: ("name", text)}
_HEADER = struct.Struct("=BBH")

_STRINGS_GET, _FEATURES_GET = 1, 11
_FEATURE_NAMES = 4  # ETH_SS_FEATURES
_COMPACT = 1  # ETHTOOL_FLAG_COMPACT_BITSETS
_NESTED = 0x8000
_REQUEST_HEADER = _NESTED | 1
_STRING: Layout = {1: ("index", number), 2: ("value", text)}
_SET: Layout = {1: ("id", number), 3: ("strings", raw)}
_BITS: Layout = {4: ("value", raw)}
_FEATURES: Layout = {
    1: ("header", nest({1: ("index", number)})),
    4: ("active", nest(_BITS)),
}

_GET_INTERFACE = 5
_INTERFACE: Layout = {3: ("index", number), 5: ("type", number), 83: ("four_addresses", flag)}
_INTERFACE_TYPES = {
    1: "ibss",
    2: "managed",
    3: "AP",
    4: "AP_VLAN",
    5: "WDS",
    6: "monitor",
    7: "mesh",
    8: "P2P-client",
    9: "P2P-GO",
}


def families(messages: Sequence[bytes]) -> dict[str, int]:
    """Numbers of the families this kernel has, by name."""
    found = (decode(message, _FAMILY, _HEADER.size) for message in messages)
    return {one["name"]: one["id"] for one in found if one.keys() == {"name", "id"}}


def read_offloads() -> dict[int, tuple[str, ...]]:
    """The features that are on, by link index; ethtool's own names, sorted.

    Raises:
        OSError: the kernel did not answer, or cannot (before 5.7).

    """
    with Netlink(GENERIC) as kernel:
        known = families(kernel.dump(_CONTROL, _HEADER.pack(_GET_FAMILY, 1, 0)))
        if "ethtool" not in known:
            raise OSError(0, "this kernel has no ethtool netlink")
        sets = attribute(_NESTED | 1, attribute(1, struct.pack("=I", _FEATURE_NAMES)))
        ask = attribute(_REQUEST_HEADER, b"") + attribute(_NESTED | 2, sets)
        strings = kernel.ask(known["ethtool"], _HEADER.pack(_STRINGS_GET, 1, 0) + ask)
        ask = attribute(_REQUEST_HEADER, attribute(3, struct.pack("=I", _COMPACT)))
        features = kernel.dump(known["ethtool"], _HEADER.pack(_FEATURES_GET, 1, 0) + ask)
    return offloads(features, feature_names(strings))


def feature_names(messages: Sequence[bytes]) -> dict[int, str]:
    """Names of features by their bit."""
    found = {}
    for message in messages:
        for _, sets in each(message, _HEADER.size):
            for _, one in each(sets):
                wanted = decode(one, _SET)
                if wanted.get("id") == _FEATURE_NAMES:
                    strings = (decode(value, _STRING) for _, value in each(wanted["strings"]))
                    # Some bits are reserved and have no name.
                found.update({one["index"]: one["value"] for one in strings if one["value"]})
    return found


def offloads(messages: Sequence[bytes], names: Mapping[int, str]) -> dict[int, tuple[str, ...]]:
    """The features that are on by link index."""
    known: dict[bytes, tuple[str, ...]] = {}
    found = {}
    for message in messages:
        fields = decode(message, _FEATURES, _HEADER.size)
        bits = fields["active"]["value"]
        if bits not in known:
            # Words of 32 bits in the machine's byte order.
            words = struct.unpack(f"={len(bits) // 4}I", bits)
            on = (n for n in names if n // 32 < len(words) and words[n // 32] >> n % 32 & 1)
            known[bits] = tuple(sorted(names[n] for n in on))
        found[fields["header"]["index"]] = known[bits]
    return found


def read_wireless() -> dict[int, Wireless]:
    """The 802.11 interfaces by link index; raises OSError."""
    with Netlink(GENERIC) as kernel:
        known = families(kernel.dump(_CONTROL, _HEADER.pack(_GET_FAMILY, 1, 0)))
        if "nl80211" not in known:
            return {}
        return wireless(kernel.dump(known["nl80211"], _HEADER.pack(_GET_INTERFACE, 1, 0)))


def wireless(messages: Sequence[bytes]) -> dict[int, Wireless]:
    """The 802.11 interfaces by link index."""
    found = {}
    for message in messages:
        fields = decode(message, _INTERFACE, _HEADER.size)
        # Some, as those for P2P, are no links.
        if "index" in fields:
            kind = fields.get("type", 0)
            found[fields["index"]] = Wireless(
                mode=_INTERFACE_TYPES.get(kind, str(kind)),
                four_addresses=fields.get("four_addresses", False),
            )
    return found
