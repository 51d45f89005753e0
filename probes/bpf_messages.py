"""The kernel's filters for messages that are followed: ARP and ND, DHCP, DNS."""

from __future__ import annotations

from collections.abc import Sequence

from kvmdiag.model.packet import IPAddress
from kvmdiag.probes.bpf_assembler import (
    ABSOLUTE,
    BYTE,
    HALF,
    INDIRECT,
    JEQ,
    JSET,
    JUMP,
    LDX_IMM,
    MSH,
    NET,
    OR,
    PROTOCOL,
    RET,
    RSH,
    Program,
)

SNAP_LENGTH = 256
_MOST_OF_NAME = 48
_ALL = 0xFFFF
_LOWER = 0x20202020


def resolution_answer(address: IPAddress) -> bytes:
    """Accept the ARP reply or the neighbour advertisement that is about this address alone."""
    p = Program()
    p.add(ABSOLUTE | HALF, PROTOCOL)
    if address.version == 4:
        p.expect(0x0806, "drop")
        p.add(ABSOLUTE | HALF, NET + 6)
        p.expect(2, "drop")
        at = NET + 14
    else:
        p.expect(0x86DD, "drop")
        p.add(ABSOLUTE | BYTE, NET + 6)
        p.expect(58, "drop")
        p.add(ABSOLUTE | BYTE, NET + 40)
        p.expect(136, "drop")
        at = NET + 48
    for word in range(0, len(address.packed), 4):
        p.add(ABSOLUTE, at + word)
        p.expect(int.from_bytes(address.packed[word : word + 4], "big"), "drop")
    p.add(RET, SNAP_LENGTH)
    p.label("drop")
    p.add(RET, 0)
    return p.assembled()


def resolution(source: IPAddress, wanted: IPAddress) -> bytes:
    """Accept the questions of ``source`` for ``wanted``, and the answers, by ARP or ND."""
    p = Program()
    p.add(ABSOLUTE | HALF, PROTOCOL)
    if wanted.version == 4:
        p.expect(0x0806, "drop")
        for label, sender, target in (("answer", source, wanted), ("drop", wanted, source)):
            for at, address in ((14, sender), (24, target)):
                p.add(ABSOLUTE, NET + at)
                p.expect(int.from_bytes(address.packed, "big"), label)
            p.add(RET, SNAP_LENGTH)
            p.label(label)
    else:
        p.expect(0x86DD, "drop")
        p.add(ABSOLUTE | BYTE, NET + 6)
        p.expect(58, "drop")
        p.add(ABSOLUTE | BYTE, NET + 40)
        p.add(JEQ, 135, "solicited", "")
        p.expect(136, "drop")
        p.label("solicited")
        for word in range(0, len(wanted.packed), 4):
            p.add(ABSOLUTE, NET + 48 + word)
            p.expect(int.from_bytes(wanted.packed[word : word + 4], "big"), "drop")
        p.add(RET, SNAP_LENGTH)
        p.label("drop")
    p.add(RET, 0)
    return p.assembled()


def dhcp(transaction: int) -> bytes:
    """Accept DHCP messages of one transaction (RFC 2131), whoever sent them."""
    p = Program()
    _enter_udp(p, 4, "drop")
    _between_ports(p, (67, 68), "drop")
    p.word(8 + 4, transaction, "drop")
    p.add(RET, _ALL)
    p.label("drop")
    p.add(RET, 0)
    return p.assembled()


def dns(name: bytes) -> bytes:
    """Accept DNS messages that ask for a name (as on the wire), by IPv4 and IPv6 and any case."""
    p = Program()
    for version in (4, 6):
        _enter_udp(p, version, f"not-{version}")
        _between_ports(p, (53,), f"not-{version}")
        for at in range(0, min(len(name), _MOST_OF_NAME) - 3, 4):
            p.add(INDIRECT, NET + 8 + 12 + at)
            p.add(OR, _LOWER)
            p.expect(int.from_bytes(name[at : at + 4], "big") | _LOWER, f"not-{version}")
        p.add(RET, _ALL)
        p.label(f"not-{version}")
    p.add(RET, 0)
    return p.assembled()


def _enter_udp(p: Program, version: int, otherwise: str) -> None:
    """Go on when it is UDP of this IP version, with X at the UDP header."""
    p.add(ABSOLUTE | BYTE, NET)
    p.add(RSH, 4)
    p.expect(version, otherwise)
    if version == 4:
        p.add(ABSOLUTE | HALF, NET + 6)
        p.add(JSET, 0x1FFF, otherwise, "")
        p.add(MSH, NET)
        p.add(ABSOLUTE | BYTE, NET + 9)
    else:
        p.add(LDX_IMM, 40)
        p.add(ABSOLUTE | BYTE, NET + 6)
    p.expect(17, otherwise)


def _between_ports(p: Program, ports: Sequence[int], otherwise: str) -> None:
    """Go on when the source port or the destination port is one of them."""
    found = f"port-{p.length}"
    for offset in (0, 2):
        p.add(INDIRECT | HALF, NET + offset)
        for port in ports:
            p.add(JEQ, port, found, "")
    p.add(JUMP, 0, otherwise)
    p.label(found)
