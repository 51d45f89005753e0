"""Building a probe and recognising it again, with scapy.

Every probe carries eight random bytes, its mark, so that it is found whatever NAT made of its
addresses. A TCP SYN carries no data; there the random sequence number is the mark: NAT leaves
it alone, and a reply acknowledges that number plus one (RFC 9293).
"""

from __future__ import annotations

import secrets
from collections.abc import Container
from ipaddress import ip_address
from typing import Any, Literal

import msgspec

from kvmdiag.model.packet import Direction, Packet, Protocol
from kvmdiag.model.question import Question
from kvmdiag.probes.headers import IP_HEADERS, PROTOCOLS
from kvmdiag.probes.scapy_quiet import Layers, layers

PADDING = bytes(range(0x30, 0x60))
"""What follows the mark, to make an echo request as long as ping's: 84 bytes with IPv4."""

_LONGEST_LOOK = 256
_UPPER_HEADER = 8  # of ICMP echo and of UDP
_FLAGS = {"F": "fin", "S": "syn", "R": "rst", "P": "psh", "A": "ack", "U": "urg"}
_ERRORS = {4: frozenset({3, 4, 5, 11, 12}), 6: frozenset({1, 2, 3, 4})}
_ECHO_REQUEST = {4: 8, 6: 128}


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent, and by what it is known again.

    ``ident`` is the ICMP identifier, or the source port once the socket has one. ``number``
    is the TCP sequence number; its low half is the ICMP sequence number. ``size`` is the length
    of the whole IP packet in bytes, ``None`` for the usual one; a SYN has its own size.
    ``payload`` takes the place of mark and padding, and begins with the mark. ``mark_at`` is
    where in the payload the mark stands, for what another program sends. ``tunnels`` are the UDP
    ports of VXLAN in which it is looked for.
    """

    proto: Protocol
    version: Literal[4, 6]
    mark: bytes
    ident: int
    number: int
    port: int | None = None
    size: int | None = None
    payload: bytes | None = None
    mark_at: int = 0
    tunnels: tuple[int, ...] = ()

    @property
    def data(self) -> bytes:
        """The payload; a SYN has none."""
        if self.payload is not None:
            return self.payload
        if self.proto == "tcp":
            return b""
        if self.size is None:
            return self.mark + PADDING
        length = max(self.size - IP_HEADERS[self.version] - _UPPER_HEADER, len(self.mark))
        return (self.mark + PADDING * (length // len(PADDING) + 1))[:length]


class Dissected(msgspec.Struct, frozen=True, kw_only=True):
    """A captured packet that belongs to the probe; ``quoted`` when an ICMP error quotes it.

    ``mtu`` is what such an error says would pass.
    """

    packet: Packet
    direction: Direction
    quoted: bool = False
    mtu: int | None = None


def new_probe(question: Question, *, size: int | None = None) -> Probe:
    """A probe for the question, with a mark of its own; of its size, or of another ``size``."""
    version: Literal[4, 6] = 6 if ":" in (question.destination.address or "") else 4
    proto: Protocol = question.proto
    if proto in ("icmp", "icmpv6"):
        proto = "icmp" if version == 4 else "icmpv6"
    return Probe(
        proto=proto,
        version=version,
        mark=secrets.token_bytes(8),
        ident=1 + secrets.randbelow(0xFFFF),
        number=1 + secrets.randbelow(0xFFFFFFFE),
        port=question.port,
        size=question.size if size is None else size,
    )


def build(probe: Probe, source: str, destination: str) -> bytes:
    """The probe above its IP header, checksum included, ready for a raw socket.

    ``source`` and ``destination`` count for the checksum of TCP and ICMPv6 only.
    """
    return build_packet(probe, source, destination)[IP_HEADERS[probe.version] :]


def build_packet(probe: Probe, source: str, destination: str) -> bytes:
    """The whole probe with its IP header, DF set."""
    scapy = layers()
    if probe.version == 4:
        ip = scapy.IP(src=source, dst=destination, flags="DF", id=probe.number & 0xFFFF)
    else:
        ip = scapy.IPv6(src=source, dst=destination)
    return bytes(ip / _upper(scapy, probe))


def _upper(scapy: Layers, probe: Probe) -> Any:
    match probe.proto:
        case "icmp":
            echo = scapy.ICMP(type=8, id=probe.ident, seq=probe.number & 0xFFFF)
            return echo / scapy.Raw(probe.data)
        case "icmpv6":
            return scapy.ICMPv6EchoRequest(
                id=probe.ident, seq=probe.number & 0xFFFF, data=probe.data
            )
        case "udp":
            return scapy.UDP(sport=probe.ident, dport=probe.port) / scapy.Raw(probe.data)
        case "tcp":
            return scapy.TCP(
                sport=probe.ident,
                dport=probe.port,
                seq=probe.number,
                flags="S",
                window=64240,
                options=[("MSS", 1460 if probe.version == 4 else 1440)],
            )


def dissect(data: bytes, probe: Probe, ports: Container[int] = ()) -> Dissected | None:
    """What a captured IP packet is to the probe; ``None`` when it is nothing of it.

    ``ports`` are source ports that NAT is known to have given to the probe: a datagram from
    the asked port to one of them is the reply. ``data`` comes from the wire and may be
    anything: only its first bytes are looked at, and what scapy cannot take apart is ignored.
    """
    if not _may_belong(data, probe):
        return None
    try:
        return _dissect(data[:_LONGEST_LOOK], probe, ports)
    except Exception:  # noqa: BLE001 - scapy raises anything on hostile bytes; none is ours to report
        return None


def _may_belong(data: bytes, probe: Probe) -> bool:
    """A quick look, so that of a flood hardly anything is taken apart."""
    match probe.proto:
        case "tcp":
            own, acknowledged = probe.number, (probe.number + 1) & 0xFFFFFFFF
            return own.to_bytes(4, "big") in data or acknowledged.to_bytes(4, "big") in data
        case "udp":
            return True
        case _:
            return probe.mark in data or echo_key(probe) in data


def _dissect(data: bytes, probe: Probe, ports: Container[int]) -> Dissected | None:
    if not data or data[0] >> 4 != probe.version:
        return None
    scapy = layers()
    ip = (scapy.IP if probe.version == 4 else scapy.IPv6)(data)
    header = ip.ihl * 4 if probe.version == 4 else IP_HEADERS[6]
    upper = data[header:]
    if _is_error(ip, upper, probe):
        if not _quotes(upper[8:], probe):
            return None
        return Dissected(
            packet=_packet(ip, upper, scapy),
            direction="reply",
            quoted=True,
            mtu=_told_mtu(upper, probe.version),
        )
    direction = _direction(ip, upper, probe, ports)
    if direction is None:
        return None
    return Dissected(packet=_packet(ip, upper, scapy), direction=direction)


def _protocol(ip: Any) -> int:
    return int(ip.proto if ip.version == 4 else ip.nh)


_NAMES = {number: name for name, number in PROTOCOLS.items()}


def _is_error(ip: Any, upper: bytes, probe: Probe) -> bool:
    return _NAMES.get(_protocol(ip), "")[:4] == "icmp" and upper[0] in _ERRORS[probe.version]


def _told_mtu(error: bytes, version: int) -> int | None:
    """The MTU in "fragmentation needed" (RFC 1191) and "packet too big" (RFC 4443)."""
    if version == 4:
        return int.from_bytes(error[6:8], "big") or None if error[:2] == b"\x03\x04" else None
    return int.from_bytes(error[4:8], "big") or None if error[0] == 2 else None


def _quotes(quoted: bytes, probe: Probe) -> bool:
    """Whether an ICMP error's quotation is our probe (RFC 792: at least 8 bytes above IP)."""
    if quoted[0] >> 4 != probe.version:
        return False
    if probe.version == 4:
        header, number = (quoted[0] & 0xF) * 4, quoted[9]
    else:
        header, number = IP_HEADERS[6], quoted[6]
    inner = quoted[header:]
    if number != PROTOCOLS[probe.proto] or len(inner) < 8:
        return False
    if inner[8 + probe.mark_at : 16 + probe.mark_at] == probe.mark:
        return probe.proto != "tcp"
    return inner[_quoted_key(probe)[0] :][:4] == _quoted_key(probe)[1]


def _quoted_key(probe: Probe) -> tuple[int, bytes]:
    """Offset and value of four bytes that tell the probe by the first eight of its header."""
    match probe.proto:
        case "tcp":
            return 4, probe.number.to_bytes(4, "big")
        case "udp":
            return 0, probe.ident.to_bytes(2, "big") + (probe.port or 0).to_bytes(2, "big")
        case _:
            return 4, echo_key(probe)


def echo_key(probe: Probe) -> bytes:
    """Identifier and sequence number of an echo request, bytes 4 to 8 of its header."""
    return probe.ident.to_bytes(2, "big") + (probe.number & 0xFFFF).to_bytes(2, "big")


def _direction(ip: Any, upper: bytes, probe: Probe, ports: Container[int]) -> Direction | None:
    if _protocol(ip) != PROTOCOLS[probe.proto]:
        return None
    match probe.proto:
        case "tcp":
            return _tcp_direction(upper, probe)
        case "udp":
            return _udp_direction(upper, probe, ports)
        case _:
            return _echo_direction(upper, probe)


def _echo_direction(upper: bytes, probe: Probe) -> Direction | None:
    if upper[8 + probe.mark_at : 16 + probe.mark_at] != probe.mark:
        return None
    request = _ECHO_REQUEST[probe.version]
    if upper[0] == request:
        return "request"
    return "reply" if upper[0] == (0 if probe.version == 4 else 129) else None


def _tcp_direction(upper: bytes, probe: Probe) -> Direction | None:
    if int.from_bytes(upper[4:8], "big") == probe.number:
        return "request"
    acknowledged = int.from_bytes(upper[8:12], "big")
    return "reply" if acknowledged == (probe.number + 1) & 0xFFFFFFFF else None


def _udp_direction(upper: bytes, probe: Probe, known: Container[int]) -> Direction | None:
    """By the side on which the asked port stands; an echoing service returns the mark too."""
    ports = int.from_bytes(upper[0:2], "big"), int.from_bytes(upper[2:4], "big")
    marked = upper[8:16] == probe.mark
    if ports[0] == probe.port:
        return "reply" if marked or ports[1] == probe.ident or ports[1] in known else None
    return "request" if marked else None


def _packet(ip: Any, upper: bytes, scapy: Layers) -> Packet:
    """The model's packet. ``upper`` is parsed apart from the IP header: no layer beyond it."""
    proto = _NAMES[_protocol(ip)]
    fields: dict[str, Any] = {"proto": proto, "src": ip_address(ip.src), "dst": ip_address(ip.dst)}
    if ip.version == 4:
        fields |= {"ttl": int(ip.ttl), "length": int(ip.len), "dont_fragment": "DF" in ip.flags}
    else:
        fields |= {"ttl": int(ip.hlim), "length": int(ip.plen) + 40, "dont_fragment": True}
    if proto in ("tcp", "udp"):
        layer = (scapy.TCP if proto == "tcp" else scapy.UDP)(upper)
        fields |= {"sport": int(layer.sport), "dport": int(layer.dport)}
        if proto == "tcp":
            flags = frozenset(_FLAGS[f] for f in str(layer.flags) if f in _FLAGS)
            fields["tcp_flags"] = flags
    else:
        fields |= {"icmp_type": upper[0], "icmp_code": upper[1]}
        if upper[0] not in _ERRORS[ip.version]:
            fields["icmp_id"] = int.from_bytes(upper[4:6], "big")
    return Packet(**fields)
