"""The packets that all rules are tried with, and names for groups of them."""

from __future__ import annotations

from .sent import answer, icmp, tcp, udp

PACKETS = {
    "ping": icmp(),
    "odd icmp": icmp(3, 4),
    "pong": answer(icmp()),
    "syn 80": tcp(80),
    "ack 80": tcp(80, "ack"),
    "syn-ack": answer(tcp(80)),
    "dns": udp(53),
    "udp 7000": udp(7000),
    "udp answer": answer(udp(7000)),
    "from .3": udp(7000, src="10.1.0.3"),
    "from .77": udp(7000, src="10.1.0.77"),
    "from afar": udp(7000, src="172.16.5.9"),
    "from far's": udp(7000, src="10.2.0.77"),
    "to .9": udp(7000, dst="10.2.0.9"),
    "ttl 3": udp(7000, ttl=3),
    "long": udp(7000, length=500),
    "may be cut": udp(7000, dont_fragment=False),
}

ALL = set(PACKETS)
PLAIN = {"udp 7000", "from .3", "from .77", "from afar", "from far's", "to .9", "ttl 3", "long",
         "may be cut"}  # fmt: skip
"""Datagrams to port 7000."""
UDP = PLAIN | {"dns", "udp answer"}
TCP = {"syn 80", "ack 80", "syn-ack"}
ICMP = {"ping", "odd icmp", "pong"}
BACK = {"pong", "syn-ack", "udp answer"}
SPOOFED = {"from afar", "from far's"}
"""Packets with a source that is not of the network they come from."""
NEAR = ALL - BACK - SPOOFED - {"from .3", "from .77"}
"""Packets with the source 10.1.0.2."""
