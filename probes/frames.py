"""Ethernet frames made by hand for a guest: the packet's, and the question who the next hop is."""

from __future__ import annotations

from ipaddress import IPv6Address

from kvmdiag.model.packet import IPAddress
from kvmdiag.probes.scapy_quiet import layers

_ARP_SENDER, _ADVERTISED_OPTION = slice(8, 14), 40 + 24
_ETHERNET = 14


def as_frame(packet: bytes, source: str, destination: str) -> bytes:
    """An IP packet from one MAC address to another."""
    scapy = layers()
    kind = 0x0800 if packet[0] >> 4 == 4 else 0x86DD
    return bytes(scapy.Ether(src=source, dst=destination, type=kind)) + packet


def resolution_request(mac: str, source: IPAddress, wanted: IPAddress) -> bytes:
    """Who has ``wanted``? By ARP (RFC 826) or neighbour solicitation (RFC 4861)."""
    scapy = layers()
    if wanted.version == 4:
        ethernet = scapy.Ether(src=mac, dst="ff:ff:ff:ff:ff:ff")
        return bytes(ethernet / scapy.ARP(hwsrc=mac, psrc=str(source), pdst=str(wanted)))
    group = IPv6Address(int(IPv6Address("ff02::1:ff00:0")) | int(wanted) & 0xFFFFFF)
    multicast = "33:33:" + group.packed[-4:].hex(":")
    ethernet = scapy.Ether(src=mac, dst=multicast)
    ip = scapy.IPv6(src=str(source), dst=str(group), hlim=255)
    asked = scapy.ICMPv6ND_NS(tgt=str(wanted)) / scapy.ICMPv6NDOptSrcLLAddr(lladdr=mac)
    return bytes(ethernet / ip / asked)


def answering_mac(frame: bytes) -> str:
    """The MAC address that an ARP reply or a neighbour advertisement tells."""
    packet = frame[_ETHERNET:]
    if frame[12:14] == b"\x08\x06":
        return packet[_ARP_SENDER].hex(":")
    option = packet[_ADVERTISED_OPTION : _ADVERTISED_OPTION + 8]
    if option[:2] == b"\x02\x01":  # target link-layer address
        return option[2:].hex(":")
    return frame[6:12].hex(":")
