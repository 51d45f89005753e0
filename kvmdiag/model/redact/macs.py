"""Stand-ins for MAC addresses that keep what bridges and people can see of them.

Whether it is a group's, and whether it was made up locally, stays. A tap's address differs
from its guest's in the first octet only (libvirt, virNetDevTapCreateInBridgePort), and that
octet stays wherever no vendor is named by it.
"""

from __future__ import annotations

import hashlib
import re

_MAC = re.compile(r"[0-9A-Fa-f]{1,2}(?::[0-9A-Fa-f]{1,2}){5}")
_LOCAL = 0x02
_GROUP = 0x01

# What hypervisors, containers and protocols use everywhere: the octets after the first.
_COMMON = (b"\x54\x00", b"\x16\x3e", b"\x42", b"\x00\x00", b"\x00\x5e", b"\x80\xc2", b"\x33")
_NOBODY = frozenset({b"\x00" * 6, b"\xff" * 6, b"\xee" * 6})


class Macs:
    """Stand-ins for the MAC addresses of one snapshot."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._tails: dict[bytes, bytes] = {}
        self._taken: set[bytes] = set()

    def __call__(self, text: str) -> str:
        """The stand-in of ``52:54:00:12:34:56``; anything else that is asked is given back."""
        if not _MAC.fullmatch(text):
            return text
        octets = bytes(int(part, 16) for part in text.split(":"))
        return self.octets(octets).hex(":")

    def octets(self, mac: bytes) -> bytes:
        """The stand-in of six octets."""
        if mac in _NOBODY or _is_well_known_group(mac):
            return mac
        tail = self._tail(mac[1:])
        first = mac[0]
        if first not in (0x00, 0x33) and not first & (_LOCAL | _GROUP):
            first = self._digest(mac[1:])[0] & ~(_LOCAL | _GROUP)
        return bytes((first, *tail))

    def _tail(self, tail: bytes) -> bytes:
        """The last five octets; taps and guests that share them share the stand-in."""
        found = self._tails.get(tail)
        if found is None:
            kept = next((known for known in _COMMON if tail.startswith(known)), b"")
            number = int.from_bytes(self._digest(tail), "big")
            room = 8 * (5 - len(kept))
            while True:
                found = kept + (number & (1 << room) - 1).to_bytes(5 - len(kept), "big")
                if found not in self._taken and found != tail:
                    break
                number += 1
            self._tails[tail] = found
            self._taken.add(found)
        return found

    def _digest(self, octets: bytes) -> bytes:
        return hashlib.blake2s(b"mac" + octets, key=self._key, digest_size=8).digest()


def _is_well_known_group(mac: bytes) -> bool:
    """Groups that every machine joins, and those of protocols."""
    return (
        mac[:5] in (b"\x33\x33\x00\x00\x00", b"\x01\x80\xc2\x00\x00", b"\x01\x00\x5e\x00\x00")
        or mac[:3] == b"\x01\x00\x0c"
    )
