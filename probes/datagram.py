"""UDP datagrams, and what VXLAN carries in them.

Source: RFC 768, RFC 7348 (the VXLAN header), drivers/net/vxlan/vxlan_core.c.
"""

from __future__ import annotations

from collections.abc import Container
from ipaddress import ip_address
from typing import NamedTuple

from kvmdiag.model.packet import IPAddress, Packet
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.probes.headers import (
    ETHER_TYPES,
    IP_HEADERS,
    MAC_HEADER,
    PROTOCOLS,
    UDP_HEADER,
    VLAN_TAG,
    VLAN_TYPES,
    VXLAN_HEADER,
)

MOST_TUNNELS = 8
"""Of so many UDP ports at most it is looked into what goes to them."""

_NETWORK_GIVEN = 0x08
_DONT_FRAGMENT = 0x40


class Datagram(NamedTuple):
    """A datagram, taken out of its IP packet."""

    packet: Packet
    payload: bytes

    @property
    def source(self) -> IPAddress:
        """Who sent it."""
        return self.packet.src

    @property
    def destination(self) -> IPAddress:
        """Whom it is for."""
        return self.packet.dst


def datagram(data: bytes) -> Datagram | None:
    """The datagram in an IP packet, which may be anything and cut off; ``None``: there is none."""
    version = data[0] >> 4 if data else 0
    header = (data[0] & 0xF) * 4 if version == 4 else IP_HEADERS[6]
    if version not in IP_HEADERS or header < IP_HEADERS[version]:
        return None
    if len(data) < header + UDP_HEADER or data[9 if version == 4 else 6] != PROTOCOLS["udp"]:
        return None
    ends = (data[12:16], data[16:20]) if version == 4 else (data[8:24], data[24:40])
    upper = data[header:]
    packet = Packet(
        src=ip_address(ends[0]),
        dst=ip_address(ends[1]),
        proto="udp",
        sport=int.from_bytes(upper[0:2], "big"),
        dport=int.from_bytes(upper[2:4], "big"),
        ttl=data[8 if version == 4 else 7],
        length=int.from_bytes(data[2:4] if version == 4 else data[4:6], "big")
        + (0 if version == 4 else IP_HEADERS[6]),
        dont_fragment=version == 6 or bool(data[6] & _DONT_FRAGMENT),
    )
    return Datagram(packet, upper[UDP_HEADER:])


class Carried(NamedTuple):
    """An IP packet under way in a tunnel, and the packet that carries it."""

    carrier: Packet
    inner: bytes


def carried(data: bytes, ports: Container[int]) -> Carried | None:
    """What a VXLAN packet to one of these ports carries; ``None`` when it is none, or no IP."""
    outer = datagram(data)
    if outer is None or outer.packet.dport not in ports or not outer.payload:
        return None
    if not outer.payload[0] & _NETWORK_GIVEN:
        return None
    at = VXLAN_HEADER + MAC_HEADER
    if outer.payload[at - 2 : at] in VLAN_TYPES:
        at += VLAN_TAG
    if outer.payload[at - 2 : at] not in ETHER_TYPES.values():
        return None
    return Carried(outer.packet, outer.payload[at:])


def tunnel_ports(snapshot: Snapshot) -> tuple[int, ...]:
    """The UDP ports of VXLAN links and of their peers, as many as are looked at."""
    ports = set()
    for stack in snapshot.stacks:
        ports |= {link.vxlan.port for link in stack.links or () if link.vxlan is not None}
        ports |= {entry.port for entry in stack.tunnels or () if entry.port is not None}
    return tuple(sorted(ports)[:MOST_TUNNELS])
