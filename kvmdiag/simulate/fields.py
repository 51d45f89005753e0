"""The fields of a packet that rules name, as values that can be compared.

A field is named as nft names it (``ip saddr``, ``meta mark``). Its value is a number or, for
device names, a string; :data:`ABSENT` when the packet has no such field, :data:`UNKNOWN` when
the snapshot cannot tell. Source: nft(8), libnftables-json(5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Final

from kvmdiag.model.packet import KERNEL_CHOOSES
from kvmdiag.parse import values
from kvmdiag.simulate.context import PROTOCOLS, Seen


class _Mark:
    """A value that is none; compared by identity."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


ABSENT: Final = _Mark("ABSENT")
UNKNOWN: Final = _Mark("UNKNOWN")

Value = int | str | _Mark
Getter = Callable[[Seen], Value]
Span = tuple[int, int] | str
"""First and last number, or a name; a name's trailing ``*`` stands for any ending."""


@dataclass(frozen=True)
class Field:
    """How a field is got from a packet, how elements of sets write it, and its width in bits."""

    get: Getter
    parse: Callable[[str], Span]
    bits: int = 32

    def span(self, text: str) -> Span:
        """The values an element stands for; nft writes ranges of numbers as prefixes if it can."""
        number, found, length = text.partition("/")
        if not found or self.parse is _address:
            return self.parse(text)
        first = values.number(number, (1 << self.bits) - 1)
        return first, first | (1 << self.bits - values.number(length, self.bits)) - 1


def _number(text: str) -> Span:
    return _range(text, lambda part: values.number(part, (1 << 128) - 1))


def _range(text: str, one: Callable[[str], int]) -> tuple[int, int]:
    first, found, last = text.partition("-")
    return (one(first), one(last)) if found else (one(text),) * 2


def _address(text: str) -> Span:
    if "-" in text:
        return _range(text, lambda part: int(ip_address(part)))
    network = ip_network(text, strict=False)
    return int(network.network_address), int(network.broadcast_address)


def _protocol(text: str) -> Span:
    name = values.protocol(text)
    return (PROTOCOLS.get(name) or int(name),) * 2


def _family(text: str) -> Span:
    return (_FAMILIES[text],) * 2


def _ethertype(text: str) -> Span:
    named = _ETHERTYPES.get(text)
    return (values.number(text, 0xFFFF) if named is None else named,) * 2


def _mac(text: str) -> Span:
    return _range(text, lambda part: int(part.replace(":", ""), 16))


def _icmp(*, v6: bool) -> Callable[[str], Span]:
    return lambda text: (values.icmp_type(text, v6=v6)[0],) * 2


def _icmp_code(text: str) -> Span:
    return (values.icmp_code(text),) * 2


def _dscp(text: str) -> Span:
    return (values.dscp(text),) * 2


def _name(text: str) -> Span:
    return text


def _word(words: Mapping[str, int]) -> Callable[[str], Span]:
    return lambda text: (words[text] if text in words else values.number(text, 0xFFFF),) * 2


_FAMILIES = {"ipv4": 2, "ipv6": 10, "arp": 3}
_ETHERTYPES = {"ip": 0x0800, "arp": 0x0806, "8021q": 0x8100, "ip6": 0x86DD, "8021ad": 0x88A8}
_FAMILY_NUMBERS = {"ip": 2, "ip6": 10, "arp": 3}
_ARP_OPERATIONS = {"request": 1, "reply": 2}
_BROADCAST = "ff:ff:ff:ff:ff:ff"
_STATES = {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64}
_DIRECTIONS = {"original": 0, "reply": 1}
_PACKET_TYPES = {"host": 0, "unicast": 0, "broadcast": 1, "multicast": 2, "other": 3}


def _of_version(version: int, get: Callable[[Seen], Value]) -> Getter:
    family = "ip" if version == 4 else "ip6"
    return lambda seen: get(seen) if seen.family == family else ABSENT


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


def _packet_type(seen: Seen) -> Value:
    """``skb->pkt_type``; the walk follows frames to the machine they are for."""
    if seen.at.dst_mac == _BROADCAST:
        return _PACKET_TYPES["broadcast"]
    if seen.packet.dst.is_multicast:
        return _PACKET_TYPES["multicast"]
    return _PACKET_TYPES["host"] if seen.at.family != "bridge" else UNKNOWN


def _state(seen: Seen) -> Value:
    if seen.tracked is not None:
        return _STATES[seen.tracked.state]
    # As for a match: before conntrack a packet without a connection counts as invalid.
    if seen.at.family not in ("ip", "ip6"):
        return UNKNOWN
    return _STATES["untracked" if seen.notrack else "invalid"]


def _direction(seen: Seen) -> Value:
    if seen.tracked is None or seen.tracked.connection is None:
        return ABSENT
    return 0 if seen.tracked.direction == "request" else 1


def _tuple_part(direction: str, part: str) -> Getter:
    """A part of the connection's original or reply tuple."""

    def get(seen: Seen) -> Value:
        if seen.tracked is None or seen.tracked.connection is None:
            return ABSENT
        value = getattr(getattr(seen.tracked.connection, direction), part)
        return ABSENT if value is None else int(value)

    return get


def _status(seen: Seen) -> Value:
    """``ct->status``; of bits that a walk leaves open none is asked for."""
    if seen.tracked is None or seen.tracked.connection is None:
        return ABSENT
    connection = seen.tracked.connection
    words = set(connection.statuses)
    if connection.flow is not None:
        words |= connection.flow.status
    if connection.replied:
        words.add("seen-reply")
    if connection.confirmed:
        words.add("confirmed")
    return sum(bit for word, bit in _STATUS_BITS.items() if word in words)


_STATUS_BITS = {
    "expected": 0x1, "seen-reply": 0x2, "assured": 0x4, "confirmed": 0x8, "snat": 0x10,
    "dnat": 0x20,
}  # fmt: skip


def _payload_length(seen: Seen) -> Value:
    """Of UDP: its header and what it carries; no IP header here has options."""
    return seen.packet.length - (20 if seen.version == 4 else 40)


def _connection_mark(seen: Seen) -> Value:
    if seen.tracked is None or seen.tracked.connection is None:
        return ABSENT
    return seen.connection_mark


def _zone(seen: Seen) -> Value:
    if seen.tracked is None or seen.tracked.connection is None:
        return seen.zone
    return seen.tracked.connection.original.zone


def _addresses() -> dict[str, Field]:
    found: dict[str, Field] = {}
    for family, version, bits in (("ip", 4, 32), ("ip6", 6, 128)):
        found[f"{family} saddr"] = Field(_of_version(version, lambda s: s.src), _address, bits)
        found[f"{family} daddr"] = Field(_of_version(version, lambda s: s.dst), _address, bits)
        for direction in ("original", "reply"):
            for name, part in (("saddr", "src"), ("daddr", "dst")):
                get = _of_version(version, _tuple_part(direction, part))
                found[f"ct {direction} {family} {name}"] = Field(get, _address, bits)
    for direction in ("original", "reply"):
        for name, part in (("proto-src", "sport"), ("proto-dst", "dport")):
            get = _tuple_part(direction, part)
            found[f"ct {direction} {name}"] = Field(get, _number, 16)
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
        "th sport": Field(_transport_source, _number, 16),
        "th dport": Field(lambda s: _port(s.dport), _number, 16),
    }
    for name, protocol in (("tcp", 6), ("udp", 17)):
        for side in ("sport", "dport"):
            get = _of_protocol(protocol, found[f"th {side}"].get)
            found[f"{name} {side}"] = Field(get, _number, 16)
    return found


FIELDS: Mapping[str, Field] = {
    **_addresses(),
    **_ports(),
    "ip protocol": Field(_of_version(4, lambda s: s.proto), _protocol, 8),
    "ip6 nexthdr": Field(_of_version(6, lambda s: s.proto), _protocol, 8),
    "ip ttl": Field(_of_version(4, lambda s: s.packet.ttl), _number, 8),
    "ip6 hoplimit": Field(_of_version(6, lambda s: s.packet.ttl), _number, 8),
    "ip length": Field(_of_version(4, lambda s: s.packet.length), _number, 16),
    # Packets are sent without a service class; a rule that sets one is not followed.
    "ip tos": Field(_of_version(4, lambda _: 0), _number, 8),
    "ip6 tos": Field(_of_version(6, lambda _: 0), _number, 8),
    "ip dscp": Field(_of_version(4, lambda _: 0), _dscp, 6),
    "ip6 dscp": Field(_of_version(6, lambda _: 0), _dscp, 6),
    "ip hdrlength": Field(_of_version(4, lambda _: 5), _number, 4),
    "ip6 length": Field(_of_version(6, lambda s: s.packet.length - 40), _number, 16),
    "udp length": Field(_of_protocol(17, _payload_length), _number, 16),
    "exthdr": Field(lambda _: ABSENT, _number),
    "ip version": Field(_of_version(4, lambda _: 4), _number, 4),
    # Neither requests nor replies are cut up before they are filtered.
    "ip frag-off": Field(
        _of_version(4, lambda s: 0x4000 if s.packet.dont_fragment else 0), _number, 16
    ),
    "icmp type": Field(
        _of_protocol(1, lambda s: _or_absent(s.packet.icmp_type)), _icmp(v6=False), 8
    ),
    "icmp code": Field(_of_protocol(1, lambda s: _or_absent(s.packet.icmp_code)), _icmp_code, 8),
    "icmpv6 type": Field(
        _of_protocol(58, lambda s: _or_absent(s.packet.icmp_type)), _icmp(v6=True), 8
    ),
    "icmpv6 code": Field(_of_protocol(58, lambda s: _or_absent(s.packet.icmp_code)), _icmp_code, 8),
    "ether saddr": Field(_hardware(lambda s: s.at.src_mac), _mac, 48),
    "ether daddr": Field(_hardware(lambda s: s.at.dst_mac), _mac, 48),
    "meta l4proto": Field(lambda s: s.proto, _protocol, 8),
    "meta nfproto": Field(lambda s: _FAMILY_NUMBERS[s.family], _family, 8),
    "meta protocol": Field(lambda s: _ETHERTYPES[s.family], _ethertype, 16),
    "ether type": Field(lambda s: _ETHERTYPES[s.family], _ethertype, 16),
    "arp htype": Field(_of_arp(lambda _: 1), _number, 16),
    "arp ptype": Field(_of_arp(lambda _: _ETHERTYPES["ip"]), _ethertype, 16),
    "arp hlen": Field(_of_arp(lambda _: 6), _number, 8),
    "arp plen": Field(_of_arp(lambda _: 4), _number, 8),
    "arp operation": Field(_of_arp(_arp_operation), _word(_ARP_OPERATIONS), 16),
    "arp saddr ip": Field(_of_arp(lambda s: s.src), _address),
    "arp daddr ip": Field(_of_arp(lambda s: s.dst), _address),
    "arp saddr ether": Field(_of_arp(_hardware(lambda s: s.at.src_mac)), _mac, 48),
    "arp daddr ether": Field(_of_arp(_arp_target), _mac, 48),
    "meta length": Field(lambda s: s.packet.length, _number),
    "meta mark": Field(lambda s: s.mark, _number),
    "meta pkttype": Field(_packet_type, _word(_PACKET_TYPES), 8),
    "meta iifkind": Field(_kind(lambda s: s.in_link), _name),
    "meta oifkind": Field(_kind(lambda s: s.out_link), _name),
    "meta ibrname": Field(_bridge_of(lambda s: s.in_link), _name),
    "meta obrname": Field(_bridge_of(lambda s: s.out_link), _name),
    "iifname": Field(_device(lambda s: s.in_link), _name),
    "oifname": Field(_device(lambda s: s.out_link), _name),
    "iif": Field(_device(lambda s: s.in_link), _name),
    "oif": Field(_device(lambda s: s.out_link), _name),
    "ct state": Field(_state, _word(_STATES)),
    "ct status": Field(_status, _number),
    "ct mark": Field(_connection_mark, _number),
    "ct direction": Field(_direction, _word(_DIRECTIONS), 8),
    "ct zone": Field(_zone, _number, 16),
}
"""All fields that are understood, by name."""
