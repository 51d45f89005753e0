"""The fields of a packet that rules name, as values that can be compared.

A field is named as nft names it (``ip saddr``, ``meta mark``). Source: nft(8),
libnftables-json(5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kvmdiag.model.packet import KERNEL_CHOOSES
from kvmdiag.simulate.rules import spans
from kvmdiag.simulate.rules.connection_fields import CONNECTION_FIELDS
from kvmdiag.simulate.rules.context import Seen
from kvmdiag.simulate.rules.field import ABSENT, UNKNOWN, Field, Getter, Value, of_version

_FAMILY_NUMBERS = {"ip": 2, "ip6": 10, "arp": 3}
_ARP_OPERATIONS = {"request": 1, "reply": 2}
_BROADCAST = "ff:ff:ff:ff:ff:ff"
_PACKET_TYPES = {"host": 0, "unicast": 0, "broadcast": 1, "multicast": 2, "other": 3}


def _of_arp(get: Callable[[Seen], Value]) -> Getter:
    return lambda seen: get(seen) if seen.family == "arp" else ABSENT


def _of_protocol(protocol: int, get: Callable[[Seen], Value]) -> Getter:
    return lambda seen: get(seen) if seen.proto == protocol else ABSENT


def _or_absent(value: int | None) -> Value:
    return ABSENT if value is None else value


def _device(seen_name: Callable[[Seen], str | None]) -> Getter:
    def get(seen: Seen) -> Value:
        name = seen_name(seen)
        return ABSENT if name is None else name

    return get


def _kind(seen_name: Callable[[Seen], str | None]) -> Getter:
    def get(seen: Seen) -> Value:
        link = seen.at.view.links.get(seen_name(seen) or "")
        return ABSENT if link is None or link.kind is None else link.kind

    return get


def _bridge_of(seen_name: Callable[[Seen], str | None]) -> Getter:
    """The bridge whose port a frame comes in or goes out by."""

    def get(seen: Seen) -> Value:
        link = seen.at.view.links.get(seen_name(seen) or "")
        return ABSENT if link is None or link.master is None else link.master

    return get


def _hardware(mac: Callable[[Seen], str | None]) -> Getter:
    def get(seen: Seen) -> Value:
        text = mac(seen)
        if text is None:
            return UNKNOWN
        return int(text.replace(":", ""), 16)

    return get


def _arp_operation(seen: Seen) -> Value:
    """Questions go to all, answers to the one that asked."""
    return _ARP_OPERATIONS["request" if seen.at.dst_mac == _BROADCAST else "reply"]


def _arp_target(seen: Seen) -> Value:
    """A question leaves the hardware address it asks for open."""
    if seen.at.dst_mac == _BROADCAST:
        return 0
    return UNKNOWN if seen.at.dst_mac is None else int(seen.at.dst_mac.replace(":", ""), 16)


def _socket_owner(seen: Seen) -> Value:
    """Only what the stack itself sends has a socket, and whose that is is not known."""
    return ABSENT if seen.at.own is False else UNKNOWN


def _packet_type(seen: Seen) -> Value:
    """``skb->pkt_type``; the walk follows frames to the machine they are for."""
    if seen.at.dst_mac == _BROADCAST:
        return _PACKET_TYPES["broadcast"]
    if seen.packet.dst.is_multicast:
        return _PACKET_TYPES["multicast"]
    return _PACKET_TYPES["host"] if seen.at.family != "bridge" else UNKNOWN


def _payload_length(seen: Seen) -> Value:
    """Of UDP: its header and what it carries; no IP header here has options."""
    return seen.packet.length - (20 if seen.version == 4 else 40)


def _addresses() -> dict[str, Field]:
    found: dict[str, Field] = {}
    for family, version, bits in (("ip", 4, 32), ("ip6", 6, 128)):
        found[f"{family} saddr"] = Field(of_version(version, lambda s: s.src), spans.address, bits)
        found[f"{family} daddr"] = Field(of_version(version, lambda s: s.dst), spans.address, bits)
    return found


def _port(port: int | None) -> Value:
    return UNKNOWN if port is None or port == KERNEL_CHOOSES else port


def _transport_source(seen: Seen) -> Value:
    """The first two bytes behind the IP header; of ICMP, whose next two are a checksum, too."""
    if seen.sport is not None:
        return _port(seen.sport)
    packet = seen.packet
    return UNKNOWN if packet.icmp_type is None else packet.icmp_type << 8 | (packet.icmp_code or 0)


def _ports() -> dict[str, Field]:
    found = {
        "th sport": Field(_transport_source, spans.number, 16),
        "th dport": Field(lambda s: _port(s.dport), spans.number, 16),
    }
    for name, protocol in (("tcp", 6), ("udp", 17)):
        for side in ("sport", "dport"):
            get = _of_protocol(protocol, found[f"th {side}"].get)
            found[f"{name} {side}"] = Field(get, spans.number, 16)
    return found


FIELDS: Mapping[str, Field] = {
    **_addresses(),
    **_ports(),
    **CONNECTION_FIELDS,
    "ip protocol": Field(of_version(4, lambda s: s.proto), spans.protocol, 8),
    "ip6 nexthdr": Field(of_version(6, lambda s: s.proto), spans.protocol, 8),
    "ip ttl": Field(of_version(4, lambda s: s.life), spans.number, 8),
    "ip6 hoplimit": Field(of_version(6, lambda s: s.life), spans.number, 8),
    "ip length": Field(of_version(4, lambda s: s.packet.length), spans.number, 16),
    # Packets are sent without a service class; a rule that sets one is not followed.
    "ip tos": Field(of_version(4, lambda _: 0), spans.number, 8),
    "ip6 tos": Field(of_version(6, lambda _: 0), spans.number, 8),
    "ip dscp": Field(of_version(4, lambda _: 0), spans.dscp, 6),
    "ip6 dscp": Field(of_version(6, lambda _: 0), spans.dscp, 6),
    "ip hdrlength": Field(of_version(4, lambda _: 5), spans.number, 4),
    "ip6 length": Field(of_version(6, lambda s: s.packet.length - 40), spans.number, 16),
    "udp length": Field(_of_protocol(17, _payload_length), spans.number, 16),
    "exthdr": Field(lambda _: ABSENT, spans.number),
    "ip version": Field(of_version(4, lambda _: 4), spans.number, 4),
    # Neither requests nor replies are cut up before they are filtered.
    "ip frag-off": Field(
        of_version(4, lambda s: 0x4000 if s.packet.dont_fragment else 0), spans.number, 16
    ),
    "icmp type": Field(
        _of_protocol(1, lambda s: _or_absent(s.packet.icmp_type)), spans.icmp(v6=False), 8
    ),
    "icmp code": Field(
        _of_protocol(1, lambda s: _or_absent(s.packet.icmp_code)), spans.icmp_code, 8
    ),
    "icmpv6 type": Field(
        _of_protocol(58, lambda s: _or_absent(s.packet.icmp_type)), spans.icmp(v6=True), 8
    ),
    "icmpv6 code": Field(
        _of_protocol(58, lambda s: _or_absent(s.packet.icmp_code)), spans.icmp_code, 8
    ),
    "ether saddr": Field(_hardware(lambda s: s.at.src_mac), spans.mac, 48),
    "ether daddr": Field(_hardware(lambda s: s.at.dst_mac), spans.mac, 48),
    "meta l4proto": Field(lambda s: s.proto, spans.protocol, 8),
    "meta nfproto": Field(lambda s: _FAMILY_NUMBERS[s.family], spans.family, 8),
    "meta protocol": Field(lambda s: spans.ETHERTYPES[s.family], spans.ethertype, 16),
    "ether type": Field(lambda s: spans.ETHERTYPES[s.family], spans.ethertype, 16),
    "arp htype": Field(_of_arp(lambda _: 1), spans.number, 16),
    "arp ptype": Field(_of_arp(lambda _: spans.ETHERTYPES["ip"]), spans.ethertype, 16),
    "arp hlen": Field(_of_arp(lambda _: 6), spans.number, 8),
    "arp plen": Field(_of_arp(lambda _: 4), spans.number, 8),
    "arp operation": Field(_of_arp(_arp_operation), spans.word(_ARP_OPERATIONS), 16),
    "arp saddr ip": Field(_of_arp(lambda s: s.src), spans.address),
    "arp daddr ip": Field(_of_arp(lambda s: s.dst), spans.address),
    "arp saddr ether": Field(_of_arp(_hardware(lambda s: s.at.src_mac)), spans.mac, 48),
    "arp daddr ether": Field(_of_arp(_arp_target), spans.mac, 48),
    "meta length": Field(lambda s: s.packet.length, spans.number),
    "meta mark": Field(lambda s: s.mark, spans.number),
    "meta skuid": Field(_socket_owner, spans.number),
    "meta skgid": Field(_socket_owner, spans.number),
    "meta pkttype": Field(_packet_type, spans.word(_PACKET_TYPES), 8),
    "meta iifkind": Field(_kind(lambda s: s.in_link), spans.name),
    "meta oifkind": Field(_kind(lambda s: s.out_link), spans.name),
    "meta ibrname": Field(_bridge_of(lambda s: s.in_link), spans.name),
    "meta obrname": Field(_bridge_of(lambda s: s.out_link), spans.name),
    "iifname": Field(_device(lambda s: s.in_link), spans.name),
    "oifname": Field(_device(lambda s: s.out_link), spans.name),
    "iif": Field(_device(lambda s: s.in_link), spans.name),
    "oif": Field(_device(lambda s: s.out_link), spans.name),
}
"""All fields that are understood, by name."""
