"""A packet as the walk and the probe see it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Literal

import msgspec

IPAddress = IPv4Address | IPv6Address
Protocol = Literal["icmp", "icmpv6", "tcp", "udp"]
Direction = Literal["request", "reply"]

KERNEL_CHOOSES = 0
"""In the place of a port, or an ICMP id: one that the kernel draws by lot."""


class Packet(msgspec.Struct, frozen=True, kw_only=True):
    """One IP packet.

    ``length`` is the size of the whole IP packet in bytes. ``sport`` and ``dport`` are the
    ports of TCP and UDP; for ICMP echo ``icmp_id`` plays the part of both, as in conntrack;
    all of them may be :data:`KERNEL_CHOOSES`.
    ``mark`` is the skb mark within the stack that handles the packet right now. ``about`` is
    the packet that an ICMP error tells of.
    """

    src: IPAddress
    dst: IPAddress
    proto: Protocol = "icmp"
    sport: int | None = None
    dport: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None
    icmp_id: int | None = None
    tcp_flags: frozenset[str] = frozenset()
    ttl: int = 64
    length: int = 84
    dont_fragment: bool = True
    mark: int = 0
    about: Packet | None = None

    @property
    def version(self) -> int:
        """4 or 6."""
        return self.src.version

    @property
    def family(self) -> Literal["ip", "ip6", "arp"]:
        """The netfilter family this packet belongs to."""
        return "ip" if self.src.version == 4 else "ip6"

    def describe(self) -> str:
        """``192.168.48.20 > 10.0.0.9 icmp``, with ports where there are any."""

        def end(address: IPAddress, port: int | None) -> str:
            if port is None:
                return str(address)
            return f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"

        return f"{end(self.src, self.sport)} > {end(self.dst, self.dport)} {self.proto}"
