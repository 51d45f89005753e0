"""Packets to be sent through the router: made from few words, and put into frames."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from ipaddress import ip_address

from msgspec.structs import replace as with_fields

from kvmdiag.model.packet import Packet

_ids = itertools.count(0x4100)


@dataclass(frozen=True)
class Sent:
    """A packet from near to far, or back; ``after`` is one of its connection sent before."""

    packet: Packet
    back: bool = False
    after: Sent | None = None


def udp(dport: int = 7000, *, src: str = "10.1.0.2", dst: str = "10.2.0.2", **more: object) -> Sent:
    """A datagram, by default from near to far."""
    return Sent(
        Packet(
            src=ip_address(src), dst=ip_address(dst), proto="udp", sport=4000, dport=dport, **more
        )
    )


def tcp(dport: int = 80, *flags: str, **more: object) -> Sent:
    """A segment, by default a SYN."""
    sent = udp(dport, **more)
    packet = with_fields(sent.packet, proto="tcp", tcp_flags=frozenset(flags or ("syn",)))
    return replace(sent, packet=packet)


def icmp(kind: int = 8, code: int = 0, **more: object) -> Sent:
    """An ICMP message, by default an echo request."""
    sent = udp(**more)
    packet = with_fields(
        sent.packet,
        proto="icmp",
        sport=None,
        dport=None,
        icmp_type=kind,
        icmp_code=code,
        icmp_id=7,
    )
    return replace(sent, packet=packet)


def answer(sent: Sent) -> Sent:
    """What comes back on the same connection."""
    packet = sent.packet
    back = with_fields(
        packet, src=packet.dst, dst=packet.src, sport=packet.dport, dport=packet.sport
    )
    if packet.proto == "tcp":
        back = with_fields(back, tcp_flags=frozenset({"syn", "ack"}))
    if packet.proto == "icmp":
        back = with_fields(back, icmp_type=0)
    return Sent(back, back=True, after=sent)


def error(sent: Sent, kind: int = 3, code: int = 1, src: str = "10.2.0.2") -> Sent:
    """The ICMP error that a machine behind the router sends about a packet as it arrived."""
    packet = with_fields(
        icmp(kind, code).packet, src=ip_address(src), dst=sent.packet.src, icmp_id=None, length=56
    )
    return Sent(with_fields(packet, about=sent.packet), back=True, after=sent.after)


def frame_of(packet: Packet, src_mac: str, dst_mac: str) -> bytes:
    """An Ethernet frame with the packet, as long as that says."""
    from scapy.layers.inet import ICMP, IP, TCP, UDP
    from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
    from scapy.layers.l2 import Ether
    from scapy.packet import Raw

    if packet.version == 4:
        flags = "DF" if packet.dont_fragment else 0
        ip = IP(
            src=str(packet.src), dst=str(packet.dst), ttl=packet.ttl, flags=flags, id=next(_ids)
        )
    else:
        ip = IPv6(src=str(packet.src), dst=str(packet.dst), hlim=packet.ttl)
    if packet.about is not None:
        inner = frame_of(packet.about, src_mac, dst_mac)[14:42]
        layer = ICMP(type=packet.icmp_type, code=packet.icmp_code) / Raw(inner)
    elif packet.proto == "icmp":
        layer = ICMP(type=packet.icmp_type, code=packet.icmp_code, id=packet.icmp_id)
    elif packet.proto == "icmpv6":
        layer = ICMPv6EchoRequest(id=packet.icmp_id)
    elif packet.proto == "tcp":
        letters = "".join(flag[0].upper() for flag in packet.tcp_flags)
        layer = TCP(sport=packet.sport, dport=packet.dport, flags=letters)
    else:
        layer = UDP(sport=packet.sport, dport=packet.dport)
    missing = packet.length - len(bytes(ip / layer))
    return bytes(Ether(src=src_mac, dst=dst_mac) / ip / layer / Raw(b"x" * max(0, missing)))
