"""What a probe and its replies look like above the IP header, for programs in the kernel.

The same comparisons serve nft's bytecode and BPF; only the first bytes of the upper layer are
looked at, so NAT and IP options make no difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

from kvmdiag.model.packet import Direction
from kvmdiag.probes.headers import (
    ETHER_TYPES,
    IP_HEADERS,
    MAC_HEADER,
    PROTOCOLS,
    UDP_HEADER,
    VLAN_TAG,
    VXLAN_HEADER,
)
from kvmdiag.probes.packet import Probe

LENGTH, TUNNEL_LENGTH = 32, 112
"""No comparison reaches beyond so many bytes of the upper layer, without a tunnel and in one."""

_ECHO = {"icmp": (8, 0), "icmpv6": (128, 129)}
_NO_OPTIONS = b"\x45"
_PROTOCOL_AT = {4: 9, 6: 6}


class Signature(NamedTuple):
    """It is the probe, travelling in ``direction``, when all ``bytes`` stand at their offsets.

    Those are offsets into the upper layer of an IP packet of this ``version`` (``None``: any)
    and ``protocol``.
    """

    direction: Direction
    bytes: tuple[tuple[int, bytes], ...]
    version: int | None
    protocol: int


def protocol(probe: Probe) -> int:
    """The number of the upper layer."""
    return PROTOCOLS[probe.proto]


def signatures(probe: Probe) -> tuple[Signature, ...]:
    """To be tried in this order; the first that fits counts."""
    number = protocol(probe)
    return tuple(
        Signature(direction, parts, probe.version, number) for direction, parts in _patterns(probe)
    )


def _patterns(probe: Probe) -> Iterator[tuple[Direction, tuple[tuple[int, bytes], ...]]]:
    mark = (8 + probe.mark_at, probe.mark)
    if probe.proto == "tcp":
        acknowledged = (probe.number + 1) & 0xFFFFFFFF
        yield "request", ((4, probe.number.to_bytes(4, "big")),)
        yield "reply", ((8, acknowledged.to_bytes(4, "big")),)
    elif probe.proto == "udp":
        # A reply need not carry the mark: it is known by its ports, as long as NAT keeps ours.
        from_port = (0, (probe.port or 0).to_bytes(2, "big"))
        to_port = (2, probe.ident.to_bytes(2, "big"))
        yield "reply", (from_port, to_port)
        yield "reply", (from_port, mark)
        yield "request", (mark,)
    else:
        request, reply = _ECHO[probe.proto]
        yield "request", ((0, bytes((request,))), mark)
        yield "reply", ((0, bytes((reply,))), mark)


def in_tunnels(probe: Probe) -> Iterator[Signature]:
    """The same in frames that VXLAN carries, with a VLAN tag and without.

    The kernel looks for a probe without IP options there.
    """
    for port, tag in product(probe.tunnels, (0, VLAN_TAG)):
        ip = UDP_HEADER + VXLAN_HEADER + MAC_HEADER + tag
        around = [
            (2, port.to_bytes(2, "big")),
            (ip - 2, ETHER_TYPES[probe.version]),
            (ip + _PROTOCOL_AT[probe.version], bytes((protocol(probe),))),
        ]
        if probe.version == 4:
            around.append((ip, _NO_OPTIONS))
        upper = ip + IP_HEADERS[probe.version]
        for direction, parts in _patterns(probe):
            inner = ((upper + at, wanted) for at, wanted in parts)
            yield Signature(direction, (*around, *inner), None, PROTOCOLS["udp"])


def anywhere(probe: Probe) -> tuple[Signature, ...]:
    """Without a tunnel, and in those of the probe."""
    return (*signatures(probe), *in_tunnels(probe))


def recognise(packet: bytes, probes: Sequence[Probe]) -> tuple[int, Direction] | None:
    """Which of the probes an IP packet is, and which way it travels; ``None`` if it is none."""
    version = packet[0] >> 4 if len(packet) >= IP_HEADERS[4] else 0
    if version not in IP_HEADERS:
        return None
    upper = packet[(packet[0] & 0xF) * 4 if version == 4 else IP_HEADERS[6] :]
    for number, probe in enumerate(probes):
        for signature in anywhere(probe):
            if signature.version not in (None, version):
                continue
            if packet[_PROTOCOL_AT[version]] == signature.protocol and _fits(signature, upper):
                return number, signature.direction
    return None


def _fits(signature: Signature, upper: bytes) -> bool:
    return all(upper[at : at + len(wanted)] == wanted for at, wanted in signature.bytes)
