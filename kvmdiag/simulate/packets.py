"""The packets of a question: the request, and what answers it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from msgspec.structs import replace

from kvmdiag.model.packet import IPAddress, Packet, Protocol
from kvmdiag.model.question import Question
from kvmdiag.simulate.facts.addresses import parse_address

# Any id and any ephemeral port do; rules that look at them are rules about something else.
_ECHO_ID = 0x4B44
_EPHEMERAL_PORT = 40000
_ECHO = {4: (8, 0), 6: (128, 129)}
_NOT_CHOSEN: dict[int, IPAddress] = {4: IPv4Address(0), 6: IPv6Address(0)}
_PING = 84  # bytes, as ping sends them
_DEFAULT_PORT = {"tcp": 80, "udp": 53}


def request_of(question: Question) -> Packet:
    """The packet a question asks about.

    Where the question names no source address it is the unspecified one, until the stack that
    sends the packet has chosen one.
    """
    assert question.destination.address is not None  # noqa: S101  resolved questions have one
    dst = parse_address(question.destination.address)
    source = question.source.address
    src = _NOT_CHOSEN[dst.version] if source is None else parse_address(source)
    if question.proto in ("icmp", "icmpv6"):
        kind = _ECHO[dst.version][0]
        proto: Protocol = "icmp" if dst.version == 4 else "icmpv6"
        return Packet(
            src=src,
            dst=dst,
            proto=proto,
            icmp_type=kind,
            icmp_code=0,
            icmp_id=_ECHO_ID if question.source_port is None else question.source_port,
            length=question.size or _PING,
        )
    return Packet(
        src=src,
        dst=dst,
        proto=question.proto,
        sport=question.source_port or _EPHEMERAL_PORT,
        dport=question.port or _DEFAULT_PORT[question.proto],
        tcp_flags=_flags(question),
        length=question.size or _PING,
    )


def _flags(question: Question) -> frozenset[str]:
    if question.proto != "tcp":
        return frozenset()
    return frozenset({"syn"} if question.source_port is None else {"ack"})


def reply_to(packet: Packet) -> Packet:
    """What the receiver of a packet answers: echo reply, SYN-ACK, or a datagram back."""
    answer = replace(
        packet,
        src=packet.dst,
        dst=packet.src,
        sport=packet.dport,
        dport=packet.sport,
        ttl=64,
        mark=0,
    )
    if packet.proto in ("icmp", "icmpv6"):
        # The kernel's own answers may be cut up (icmp_sk_init: IP_PMTUDISC_DONT).
        kind = 0 if packet.proto == "icmp" else 129
        return replace(answer, icmp_type=kind, dont_fragment=False)
    if packet.proto == "tcp":
        return replace(answer, tcp_flags=packet.tcp_flags | {"ack"})
    return answer
