"""What a probe and its replies look like above the IP header, for programs in the kernel.

The same comparisons serve nft's bytecode and BPF; only the first bytes of the upper layer are
looked at, so NAT and IP options make no difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kvmdiag.model.packet import Direction
from kvmdiag.probes.headers import PROTOCOLS
from kvmdiag.probes.packet import Probe

LENGTH = 32
"""No comparison reaches beyond this many bytes of the upper layer."""

_ECHO = {"icmp": (8, 0), "icmpv6": (128, 129)}


class Signature(NamedTuple):
    """It is the probe, travelling in ``direction``, when all ``bytes`` stand at their offsets."""

    direction: Direction
    bytes: tuple[tuple[int, bytes], ...]


def protocol(probe: Probe) -> int:
    """The number of the upper layer."""
    return PROTOCOLS[probe.proto]


def signatures(probe: Probe) -> tuple[Signature, ...]:
    """To be tried in this order; the first that fits counts."""
    mark = (8 + probe.mark_at, probe.mark)
    if probe.proto == "tcp":
        acknowledged = (probe.number + 1) & 0xFFFFFFFF
        return (
            Signature("request", ((4, probe.number.to_bytes(4, "big")),)),
            Signature("reply", ((8, acknowledged.to_bytes(4, "big")),)),
        )
    if probe.proto == "udp":
        # A reply need not carry the mark: it is known by its ports, as long as NAT keeps ours.
        from_port = (0, (probe.port or 0).to_bytes(2, "big"))
        to_port = (2, probe.ident.to_bytes(2, "big"))
        return (
            Signature("reply", (from_port, to_port)),
            Signature("reply", (from_port, mark)),
            Signature("request", (mark,)),
        )
    request, reply = _ECHO[probe.proto]
    return (
        Signature("request", ((0, bytes((request,))), mark)),
        Signature("reply", ((0, bytes((reply,))), mark)),
    )


def recognise(packet: bytes, probes: Sequence[Probe]) -> tuple[int, Direction] | None:
    """Which of the probes an IP packet is, and which way it travels; ``None`` if it is none."""
    for number, probe in enumerate(probes):
        four = probe.version == 4
        if len(packet) < 20 or packet[0] >> 4 != probe.version:
            continue
        if packet[9 if four else 6] != protocol(probe):
            continue
        upper = packet[(packet[0] & 0xF) * 4 :] if four else packet[40:]
        for signature in signatures(probe):
            if all(upper[at : at + len(wanted)] == wanted for at, wanted in signature.bytes):
                return number, signature.direction
    return None
