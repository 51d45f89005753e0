"""The packets that are sent, and how they are known again wherever they are seen.

ICMP bears the number of its question as its id, UDP and TCP data bear a tag, and a TCP
handshake is known by the port that the question has to itself.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import ip_address

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
FIRST_PORT = 40000
_MOST = 1000
_SYN, _RST, _PSH, _ACK = 0x02, 0x04, 0x08, 0x10
_TAG = struct.Struct("!2sHBB")
_MARK = b"kd"
_REQUEST, _REPLY = 1, 2
_ECHOES = {(ICMP, 8): _REQUEST, (ICMP, 0): _REPLY, (ICMPV6, 128): _REQUEST, (ICMPV6, 129): _REPLY}


@dataclass(frozen=True)
class Sighting:
    """One of our packets: of which question and round, and which way it travels."""

    number: int
    round: int
    is_reply: bool
    proto: int
    src: str
    dst: str
    sport: int
    dport: int


def tag(number: int, round: int) -> bytes:  # noqa: A002 - of several rounds
    """What a datagram bears; :func:`answer` makes the reply's of it."""
    return _TAG.pack(_MARK, number, round, _REQUEST)


def answer(data: bytes) -> bytes | None:
    """The datagram that is sent back for one; what is an answer itself gets none."""
    number, round_, way = _tagged(data)
    return _TAG.pack(_MARK, number, round_, _REPLY) if way == _REQUEST else None


def echo_request(number: int, round: int, version: int, size: int) -> bytes:  # noqa: A002
    """An ICMP message for a packet of ``size`` bytes; of ICMPv6 the kernel makes the checksum."""
    kind = 8 if version == 4 else 128
    body = bytes(size - (28 if version == 4 else 48))
    header = struct.pack("!BBHHH", kind, 0, 0, FIRST_PORT + number, round)
    return struct.pack("!BBHHH", kind, 0, _checksum(header + body), FIRST_PORT + number, round) + (
        body
    )


def recognised(data: bytes) -> Sighting | None:
    """One of our packets, from its IP header on; ``None`` for any other."""
    if len(data) >= 28 and data[0] >> 4 == 4:
        at = (data[0] & 15) * 4
        if struct.unpack_from("!H", data, 6)[0] & 0x1FFF:
            return None  # a later fragment
        return upper(data[9], data[at:], str(ip_address(data[12:16])), str(ip_address(data[16:20])))
    if len(data) >= 48 and data[0] >> 4 == 6:
        src, dst = str(ip_address(data[8:24])), str(ip_address(data[24:40]))
        return upper(data[6], data[40:], src, dst)
    return None


def upper(proto: int, data: bytes, src: str, dst: str) -> Sighting | None:
    """One of our packets, from the header above IP on."""
    if len(data) < 8:
        return None
    sport, dport = struct.unpack_from("!HH", data)
    if proto in (ICMP, ICMPV6):
        way = _ECHOES.get((proto, data[0]))
        number, round_ = struct.unpack_from("!HH", data, 4)
        known = (number - FIRST_PORT, round_, way)
        sport = dport = number
    elif proto == UDP:
        known = _tagged(data[8:])
    elif proto == TCP and len(data) >= 20:
        known = _of_tcp(data, sport, dport)
    else:
        return None
    number, round_, way = known
    if way is None or not 0 <= number < _MOST:
        return None
    return Sighting(number, round_, way == _REPLY, proto, src, dst, sport, dport)


_NOT_OURS = (-1, 0, None)


def _tagged(data: bytes) -> tuple[int, int, int | None]:
    if len(data) < _TAG.size:
        return _NOT_OURS
    mark, number, round_, way = _TAG.unpack_from(data)
    return (number, round_, way) if mark == _MARK else _NOT_OURS


def _of_tcp(data: bytes, sport: int, dport: int) -> tuple[int, int, int | None]:
    """SYN and its answer, then data and the bare ACK for it.

    The ACK that ends the handshake counts as data: it fares like them, and where it is refused
    there is no connection to send any.
    """
    flags = data[13] & (_SYN | _RST | _PSH | _ACK)
    if flags == _SYN:
        return sport - FIRST_PORT, 1, _REQUEST
    if flags == _SYN | _ACK:
        return dport - FIRST_PORT, 1, _REPLY
    if flags == _PSH | _ACK:
        return sport - FIRST_PORT, 2, _REQUEST
    if flags == _ACK:
        asked = FIRST_PORT <= sport < FIRST_PORT + _MOST
        return (sport - FIRST_PORT, 2, _REQUEST) if asked else (dport - FIRST_PORT, 2, _REPLY)
    return _NOT_OURS


def _checksum(data: bytes) -> int:
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF
