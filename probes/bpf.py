"""The kernel's filter for a probe: classic BPF, made for its mark.

Messages that are followed have theirs in ``bpf_messages``.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Sequence
from itertools import product

from kvmdiag.model.packet import IPAddress
from kvmdiag.probes.bpf_assembler import (
    ABSOLUTE,
    ADD,
    ADD_X,
    AND,
    BYTE,
    HALF,
    INDIRECT,
    JEQ,
    JSET,
    JUMP,
    LD_IMM,
    LDX_IMM,
    LSH,
    MSH,
    NET,
    RET,
    RSH,
    TAX,
    Program,
)
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

SO_ATTACH_FILTER = 26
SNAP_LENGTH = 256
_MOST_ANSWERERS = 8


def attach(
    sock: socket.socket, probes: Sequence[Probe], answerers: Sequence[IPAddress] = ()
) -> None:
    """Let the socket receive nothing but what belongs to the probes (see ``program``)."""
    attach_code(sock, program(probes, answerers))


def attach_code(sock: socket.socket, code: bytes) -> None:
    """Put a filter of one's own on the socket."""
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, header)


def program(probes: Sequence[Probe], answerers: Sequence[IPAddress] = ()) -> bytes:
    """Accept the probes, their replies, and ICMP errors that quote them; drop all else.

    A UDP reply that does not carry the mark cannot be told in the kernel once NAT has changed
    our port: what comes from the asked port of one of the ``answerers`` is accepted too.
    What goes to the ports of their tunnels is looked into as well.
    """
    code = [_program(Program(), probe, answerers) for probe in probes]
    for carrier, tagged in product(IP_HEADERS, (False, True)):
        code += [
            _program(_in_tunnel(probe, carrier, tagged), probe, answerers)
            for probe in probes
            if probe.tunnels
        ]
    return b"".join(code) + struct.pack("=HBBI", RET, 0, 0, 0)


def _in_tunnel(probe: Probe, carrier: int, tagged: bool) -> Program:
    """Go on with what VXLAN carries over ``carrier``, a version of IP, if it may be the probe.

    The kernel sends such packets without IP options. Source: vxlan_build_skb.
    """
    udp = NET + IP_HEADERS[carrier]
    base = udp + UDP_HEADER + VXLAN_HEADER + MAC_HEADER + (VLAN_TAG if tagged else 0)
    p = Program(base)
    p.add(ABSOLUTE | BYTE, NET)
    if carrier == 4:
        p.expect(0x45, "drop")
        p.add(ABSOLUTE | HALF, NET + 6)
        p.add(JSET, 0x1FFF, "drop", "")
        p.add(ABSOLUTE | BYTE, NET + 9)
    else:
        p.add(RSH, 4)
        p.expect(6, "drop")
        p.add(ABSOLUTE | BYTE, NET + 6)
    p.expect(PROTOCOLS["udp"], "drop")
    p.add(ABSOLUTE | HALF, udp + 2)
    for port in probe.tunnels:
        p.add(JEQ, port, "tunnel", "")
    p.add(JUMP, 0, "drop")
    p.label("tunnel")
    p.add(ABSOLUTE | HALF, base - 2)
    p.expect(int.from_bytes(ETHER_TYPES[probe.version], "big"), "drop")
    return p


def _program(p: Program, probe: Probe, answerers: Sequence[IPAddress]) -> bytes:
    """For one probe; what it does not accept it leaves to the instruction behind its last."""
    p.add(ABSOLUTE | BYTE, p.base)
    p.add(RSH, 4)
    p.expect(probe.version, "drop")
    if probe.version == 4:
        p.add(ABSOLUTE | HALF, p.base + 6)
        p.add(JSET, 0x1FFF, "drop", "")  # only first fragments have what we look for
        p.add(MSH, p.base)
        p.add(ABSOLUTE | BYTE, p.base + 9)
    else:
        p.add(LDX_IMM, 40)
        p.add(ABSOLUTE | BYTE, p.base + 6)
    number = PROTOCOLS[probe.proto]
    p.add(JEQ, PROTOCOLS["icmp" if probe.version == 4 else "icmpv6"], "icmp", "")
    p.expect(number, "drop")
    if probe.proto == "tcp":
        _match_tcp(p, probe)
    elif probe.proto == "udp":
        _match_udp(p, probe, answerers)
    p.add(JUMP, 0, "drop")
    p.label("icmp")
    _match_icmp(p, probe, number)
    p.add(JUMP, 0, "drop")
    p.label("accept")
    p.add(RET, SNAP_LENGTH)
    p.label("drop")
    return p.assembled()


def _match_tcp(p: Program, probe: Probe) -> None:
    p.word(4, probe.number, "reply")
    p.add(JUMP, 0, "accept")
    p.label("reply")
    p.word(8, (probe.number + 1) & 0xFFFFFFFF, "drop")
    p.add(JUMP, 0, "accept")


def _match_udp(p: Program, probe: Probe, answerers: Sequence[IPAddress]) -> None:
    """A reply need not carry the mark: it is known by its ports, as long as NAT keeps ours."""
    port = probe.port or 0
    p.word(0, port << 16 | probe.ident, "mark")
    p.add(JUMP, 0, "accept")
    p.label("mark")
    _match_mark(p, probe, "from-port")
    p.label("from-port")
    p.add(INDIRECT | HALF, p.base)
    p.expect(port, "drop")
    for number, address in enumerate(answerers[:_MOST_ANSWERERS]):
        _match_source(p, probe, address, f"not-{number}")


def _match_source(p: Program, probe: Probe, address: IPAddress, otherwise: str) -> None:
    if address.version == probe.version:
        at = p.base + (12 if probe.version == 4 else 8)
        for word in range(0, len(address.packed), 4):
            p.add(ABSOLUTE, at + word)
            p.expect(int.from_bytes(address.packed[word : word + 4], "big"), otherwise)
        p.add(JUMP, 0, "accept")
    p.label(otherwise)


def _match_mark(p: Program, probe: Probe, otherwise: str) -> None:
    at = 8 + probe.mark_at
    p.word(at, int.from_bytes(probe.mark[:4], "big"), otherwise)
    p.word(at + 4, int.from_bytes(probe.mark[4:], "big"), otherwise)
    p.add(JUMP, 0, "accept")


def _match_icmp(p: Program, probe: Probe, number: int) -> None:
    if probe.proto in ("icmp", "icmpv6"):
        _match_mark(p, probe, "quoted")
    p.label("quoted")
    # X to the end of the quoted IP header, which begins 8 bytes into the ICMP message.
    if probe.version == 4:
        p.add(INDIRECT | BYTE, p.base + 8 + 9)
        p.expect(number, "drop")
        p.add(INDIRECT | BYTE, p.base + 8)
        p.add(AND, 0xF)
        p.add(LSH, 2)
    else:
        p.add(INDIRECT | BYTE, p.base + 8 + 6)
        p.expect(number, "drop")
        p.add(LD_IMM, 40)
    p.add(ADD_X)
    p.add(ADD, 8)
    p.add(TAX)
    match probe.proto:
        case "tcp":
            p.word(4, probe.number, "drop")
        case "udp":
            p.word(0, probe.ident << 16 | (probe.port or 0), "quoted-mark")
        case _:
            p.word(4, probe.ident << 16 | probe.number & 0xFFFF, "quoted-mark")
    p.add(JUMP, 0, "accept")
    if probe.proto != "tcp":
        p.label("quoted-mark")
        _match_mark(p, probe, "drop")
