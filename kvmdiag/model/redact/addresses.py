"""Stand-ins for addresses that keep what routing and rules can see of them.

Two addresses share as many leading bits afterwards as before (Xu, Fan, Ammar, Moon:
"Prefix-Preserving IP Address Anonymization", 2002), so every subnet, every overlap and every
longest match stays. Registered blocks stay as well: private is private, link-local is
link-local. The last octet, or the last 16 bits of IPv6, is left alone; with its network
unknown it tells nothing, and broadcast addresses stay what they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Literal

from kvmdiag.model.redact.macs import Macs

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network


def _networks(text: str) -> tuple[IPNetwork, ...]:
    return tuple(ip_network(word) for word in text.split())


# Blocks in which every address has a meaning of its own that everybody knows.
_PUBLIC = _networks(
    "0.0.0.0/8 127.0.0.0/8 169.254.0.0/16 224.0.0.0/24 240.0.0.0/4"
    " ::/127 ff01::/112 ff02::/112 ff05::/112"
)

# IANA's special-purpose registries, and multicast. Whether an address is in one of these
# decides what the kernel and the checks do with it.
_BLOCKS = _PUBLIC + _networks(
    "10.0.0.0/8 100.64.0.0/10 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.168.0.0/16"
    " 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4"
    " ::/96 ::ffff:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 2001::/23 2001:db8::/32 2002::/16"
    # Within 2001::/23 some are for special use, and some of these reachable from everywhere.
    " 2001:1::1 2001:1::2 2001:2::/48 2001:3::/32 2001:4:112::/48 2001:10::/28 2001:20::/28"
    " 2001:30::/28"
    " 2000::/3 fc00::/8 fd00::/8 fe80::/64 fe80::/10 ff00::/8"
)
_SOLICITED = ip_network("ff02::1:ff00:0/104")
_BITS: dict[int, Literal[32, 128]] = {4: 32, 6: 128}
_KEPT_TAIL = {4: 8, 6: 16}
_IID = 64

# A range whose ends share fewer bits than this is kept in order only by luck.
_SHORTEST_KEPT = {4: 12, 6: 40}


class Addresses:
    """Stand-ins for the addresses of one snapshot.

    Args:
        key: what makes the stand-ins unpredictable; the same key gives the same ones.
        networks: those in the snapshot, whose first and last addresses stay first and last.
        ranges: ``first-last`` pairs in the snapshot; what they hold keeps its order.
        macs: stand-ins for the MAC addresses in interface identifiers.

    """

    def __init__(
        self,
        key: bytes,
        networks: Iterable[IPNetwork],
        ranges: Iterable[tuple[IPAddress, IPAddress]],
        macs: Macs,
    ) -> None:
        self._key = key
        self._macs = macs
        self._special: dict[IPAddress, IPNetwork] = {}
        self._long = set[IPNetwork]()
        for network in sorted(networks, key=lambda n: n.prefixlen):
            if network.version == 6 and network.prefixlen > _IID:
                self._long.add(network)
            if 0 < network.prefixlen < _BITS[network.version] - _KEPT_TAIL[network.version]:
                # The longest comes last and wins.
                self._special[network.network_address] = network
                if network.version == 4:
                    self._special[network.broadcast_address] = network
        around = {_around(first, last) for first, last in ranges}
        self._kept = (
            *_PUBLIC,
            *(block for block in around if block.prefixlen >= _SHORTEST_KEPT[block.version]),
        )
        self._known: dict[IPAddress, IPAddress] = {}
        self._flips: dict[tuple[int, int, int], int] = {}

    def __call__(self, address: IPAddress) -> IPAddress:
        """The stand-in of one address."""
        found = self._known.get(address)
        if found is None:
            found = self._known[address] = self._stand_in(address)
        return found

    def stays(self, address: IPAddress) -> bool:
        """Whether an address is left as it is because everybody knows it or its network."""
        if self(address) != address:
            return False
        version, bits = address.version, _BITS[address.version]
        return all(
            self._is_fixed(version, position, int(address) >> bits - position)
            for position in range(bits - _KEPT_TAIL[version])
        )

    def network(self, address: IPAddress, length: int) -> IPAddress:
        """The stand-in of a network's first address, or of an address in it that was given."""
        bits = _BITS[address.version]
        host = int(address) & ((1 << bits - length) - 1)
        if host or length == bits:
            return self(address)
        mapped = int(self._bits(address)) >> bits - length << bits - length
        return type(address)(mapped)

    def _stand_in(self, address: IPAddress) -> IPAddress:
        if address in _SOLICITED:
            return IPv6Address(int(address) & ~0xFFFFFF | self._digest(address) & 0xFFFFFF)
        if address.version == 6 and address.ipv4_mapped is not None:
            return IPv6Address(0xFFFF << 32 | int(self(address.ipv4_mapped)))
        network = self._special.get(address)
        if network is not None:
            first = self.network(network.network_address, network.prefixlen)
            if address == network.network_address:
                return first
            return type(address)(int(first) | int(network.hostmask))
        mapped = self._bits(address)
        if address.version == 6 and not any(address in network for network in self._long):
            return self._with_identifier(address, mapped)
        return mapped

    def _with_identifier(self, address: IPAddress, mapped: IPAddress) -> IPAddress:
        """An identifier made from a MAC address follows that address's stand-in (RFC 4291)."""
        identifier = (int(address) & (1 << _IID) - 1).to_bytes(8, "big")
        if identifier[3:5] != b"\xff\xfe":
            return mapped
        mac = bytes((identifier[0] ^ 2, *identifier[1:3], *identifier[5:]))
        new = self._macs.octets(mac)
        made = bytes((new[0] ^ 2, *new[1:3], 0xFF, 0xFE, *new[3:]))
        return IPv6Address(int(mapped) >> _IID << _IID | int.from_bytes(made, "big"))

    def _bits(self, address: IPAddress) -> IPAddress:
        """Each bit turned or not, as the bits before it say."""
        bits = _BITS[address.version]
        number = int(address)
        turned = 0
        for position in range(bits - _KEPT_TAIL[address.version]):
            place = (address.version, position, number >> bits - position)
            flip = self._flips.get(place)
            if flip is None:
                flip = self._flips[place] = 0 if self._is_fixed(*place) else self._chance(*place)
            turned |= flip << bits - position - 1
        return type(address)(number ^ turned)

    def _chance(self, version: int, position: int, prefix: int) -> int:
        text = f"{version}/{position}/{prefix:x}".encode()
        return hashlib.blake2s(text, key=self._key, digest_size=1).digest()[0] & 1

    def _is_fixed(self, version: int, position: int, prefix: int) -> bool:
        """Whether the bit at a position stays, for every address with these bits before it."""
        if version == 6 and position >= _IID and not prefix & (1 << position - _IID) - 1:
            # Identifiers such as ::1 and ::53 are no secret, and gateways have them.
            return True
        bits = _BITS[version]
        if any(
            block.version == version
            and block.prefixlen > position
            and int(block.network_address) >> bits - position == prefix
            for block in _BLOCKS
        ):
            return True
        return any(
            block.version == version
            and block.prefixlen <= position
            and int(block.network_address) >> bits - block.prefixlen
            == prefix >> position - block.prefixlen
            for block in self._kept
        )

    def _digest(self, address: IPAddress) -> int:
        text = str(address).encode()
        return int.from_bytes(hashlib.blake2s(text, key=self._key, digest_size=8).digest(), "big")


def _around(first: IPAddress, last: IPAddress) -> IPNetwork:
    """The smallest network that holds both."""
    bits = _BITS[first.version]
    length = bits - (int(first) ^ int(last)).bit_length()
    start = int(first) >> bits - length << bits - length
    kind = IPv4Network if first.version == 4 else IPv6Network
    return kind((start, length))
