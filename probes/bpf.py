"""The kernel's filter for a probe: classic BPF, made for its mark.

Offsets are relative to the network header (``SKF_NET_OFF``), so that one program serves
packet sockets and raw sockets, with and without a link layer. A load beyond the end of a
packet ends the program with 0: shorter patterns must be tried first.
Source: Documentation/networking/filter.rst, include/uapi/linux/filter.h.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Sequence

from kvmdiag.model.packet import IPAddress
from kvmdiag.probes.packet import Probe

SO_ATTACH_FILTER = 26
SNAP_LENGTH = 256
_MOST_ANSWERERS = 8
_MOST_OF_NAME = 48
_ALL = 0xFFFF
_LOWER = 0x20202020

_NET = -0x100000
_PROTOCOL = -0x1000  # SKF_AD_PROTOCOL: the frame's EtherType
_ABSOLUTE, _INDIRECT, _RET, _LD_IMM, _LDX_IMM = 0x20, 0x40, 0x06, 0x00, 0x01
_HALF, _BYTE = 0x08, 0x10
_OR, _AND, _LSH, _RSH, _ADD, _ADD_X, _TAX, _MSH = 0x44, 0x54, 0x64, 0x74, 0x04, 0x0C, 0x07, 0xB1
_JEQ, _JSET, _JUMP = 0x15, 0x45, 0x05

_Instruction = tuple[int, int, str, str]


class _Program:
    """Instructions with named jump targets; an empty name is the next instruction."""

    def __init__(self) -> None:
        self._code: list[_Instruction] = []
        self._labels: dict[str, int] = {}

    def label(self, name: str) -> None:
        self._labels[name] = len(self._code)

    def add(self, code: int, value: int = 0, yes: str = "", no: str = "") -> None:
        self._code.append((code, value & 0xFFFFFFFF, yes, no))

    @property
    def length(self) -> int:
        """How many instructions there are so far."""
        return len(self._code)

    def expect(self, value: int, otherwise: str) -> None:
        """Go on when A is ``value``."""
        self.add(_JEQ, value, "", otherwise)

    def assembled(self) -> bytes:
        """``struct sock_filter`` after ``struct sock_filter``."""
        return b"".join(self._encode(at, *one) for at, one in enumerate(self._code))

    def _encode(self, at: int, code: int, value: int, yes: str, no: str) -> bytes:
        def distance(name: str) -> int:
            return self._labels[name] - at - 1 if name else 0

        if code == _JUMP:
            return struct.pack("=HBBI", code, 0, 0, distance(yes))
        return struct.pack("=HBBI", code, distance(yes), distance(no), value)


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
    """
    code = b"".join(_program(probe, answerers) for probe in probes)
    return code + struct.pack("=HBBI", _RET, 0, 0, 0)


def _program(probe: Probe, answerers: Sequence[IPAddress]) -> bytes:
    """For one probe; what it does not accept it leaves to the instruction behind its last."""
    p = _Program()
    p.add(_ABSOLUTE | _BYTE, _NET)
    p.add(_RSH, 4)
    p.expect(probe.version, "drop")
    if probe.version == 4:
        p.add(_ABSOLUTE | _HALF, _NET + 6)
        p.add(_JSET, 0x1FFF, "drop", "")  # only first fragments have what we look for
        p.add(_MSH, _NET)
        p.add(_ABSOLUTE | _BYTE, _NET + 9)
    else:
        p.add(_LDX_IMM, 40)
        p.add(_ABSOLUTE | _BYTE, _NET + 6)
    icmp = 1 if probe.version == 4 else 58
    number = {"icmp": 1, "icmpv6": 58, "tcp": 6, "udp": 17}[probe.proto]
    p.add(_JEQ, icmp, "icmp", "")
    p.expect(number, "drop")
    if probe.proto == "tcp":
        _match_tcp(p, probe)
    elif probe.proto == "udp":
        _match_udp(p, probe, answerers)
    p.add(_JUMP, 0, "drop")
    p.label("icmp")
    _match_icmp(p, probe, number)
    p.add(_JUMP, 0, "drop")
    p.label("accept")
    p.add(_RET, SNAP_LENGTH)
    p.label("drop")
    return p.assembled()


def resolution_answer(address: IPAddress) -> bytes:
    """Accept the ARP reply or the neighbour advertisement that is about this address alone."""
    p = _Program()
    p.add(_ABSOLUTE | _HALF, _PROTOCOL)
    if address.version == 4:
        p.expect(0x0806, "drop")
        p.add(_ABSOLUTE | _HALF, _NET + 6)
        p.expect(2, "drop")
        at = _NET + 14
    else:
        p.expect(0x86DD, "drop")
        p.add(_ABSOLUTE | _BYTE, _NET + 6)
        p.expect(58, "drop")
        p.add(_ABSOLUTE | _BYTE, _NET + 40)
        p.expect(136, "drop")
        at = _NET + 48
    for word in range(0, len(address.packed), 4):
        p.add(_ABSOLUTE, at + word)
        p.expect(int.from_bytes(address.packed[word : word + 4], "big"), "drop")
    p.add(_RET, SNAP_LENGTH)
    p.label("drop")
    p.add(_RET, 0)
    return p.assembled()


def dhcp(transaction: int) -> bytes:
    """Accept DHCP messages of one transaction (RFC 2131), whoever sent them."""
    p = _Program()
    _enter_udp(p, 4, "drop")
    _between_ports(p, (67, 68), "drop")
    _word(p, 8 + 4, transaction, "drop")
    p.add(_RET, _ALL)
    p.label("drop")
    p.add(_RET, 0)
    return p.assembled()


def dns(name: bytes) -> bytes:
    """Accept DNS messages that ask for a name (as on the wire), by IPv4 and IPv6 and any case."""
    p = _Program()
    for version in (4, 6):
        _enter_udp(p, version, f"not-{version}")
        _between_ports(p, (53,), f"not-{version}")
        for at in range(0, min(len(name), _MOST_OF_NAME) - 3, 4):
            p.add(_INDIRECT, _NET + 8 + 12 + at)
            p.add(_OR, _LOWER)
            p.expect(int.from_bytes(name[at : at + 4], "big") | _LOWER, f"not-{version}")
        p.add(_RET, _ALL)
        p.label(f"not-{version}")
    p.add(_RET, 0)
    return p.assembled()


def _enter_udp(p: _Program, version: int, otherwise: str) -> None:
    """Go on when it is UDP of this IP version, with X at the UDP header."""
    p.add(_ABSOLUTE | _BYTE, _NET)
    p.add(_RSH, 4)
    p.expect(version, otherwise)
    if version == 4:
        p.add(_ABSOLUTE | _HALF, _NET + 6)
        p.add(_JSET, 0x1FFF, otherwise, "")
        p.add(_MSH, _NET)
        p.add(_ABSOLUTE | _BYTE, _NET + 9)
    else:
        p.add(_LDX_IMM, 40)
        p.add(_ABSOLUTE | _BYTE, _NET + 6)
    p.expect(17, otherwise)


def _between_ports(p: _Program, ports: Sequence[int], otherwise: str) -> None:
    """Go on when the source port or the destination port is one of them."""
    found = f"port-{p.length}"
    for offset in (0, 2):
        p.add(_INDIRECT | _HALF, _NET + offset)
        for port in ports:
            p.add(_JEQ, port, found, "")
    p.add(_JUMP, 0, otherwise)
    p.label(found)


def _word(p: _Program, offset: int, value: int, otherwise: str) -> None:
    """Compare four bytes of the upper layer, whose start X holds."""
    p.add(_INDIRECT, _NET + offset)
    p.expect(value, otherwise)


def _match_tcp(p: _Program, probe: Probe) -> None:
    _word(p, 4, probe.number, "reply")
    p.add(_JUMP, 0, "accept")
    p.label("reply")
    _word(p, 8, (probe.number + 1) & 0xFFFFFFFF, "drop")
    p.add(_JUMP, 0, "accept")


def _match_udp(p: _Program, probe: Probe, answerers: Sequence[IPAddress]) -> None:
    """A reply need not carry the mark: it is known by its ports, as long as NAT keeps ours."""
    port = probe.port or 0
    _word(p, 0, port << 16 | probe.ident, "mark")
    p.add(_JUMP, 0, "accept")
    p.label("mark")
    _match_mark(p, probe, "from-port")
    p.label("from-port")
    p.add(_INDIRECT | _HALF, _NET)
    p.expect(port, "drop")
    for number, address in enumerate(answerers[:_MOST_ANSWERERS]):
        _match_source(p, probe, address, f"not-{number}")


def _match_source(p: _Program, probe: Probe, address: IPAddress, otherwise: str) -> None:
    if address.version == probe.version:
        at = _NET + (12 if probe.version == 4 else 8)
        for word in range(0, len(address.packed), 4):
            p.add(_ABSOLUTE, at + word)
            p.expect(int.from_bytes(address.packed[word : word + 4], "big"), otherwise)
        p.add(_JUMP, 0, "accept")
    p.label(otherwise)


def _match_mark(p: _Program, probe: Probe, otherwise: str) -> None:
    at = 8 + probe.mark_at
    _word(p, at, int.from_bytes(probe.mark[:4], "big"), otherwise)
    _word(p, at + 4, int.from_bytes(probe.mark[4:], "big"), otherwise)
    p.add(_JUMP, 0, "accept")


def _match_icmp(p: _Program, probe: Probe, number: int) -> None:
    if probe.proto in ("icmp", "icmpv6"):
        _match_mark(p, probe, "quoted")
    p.label("quoted")
    # X to the end of the quoted IP header, which begins 8 bytes into the ICMP message.
    if probe.version == 4:
        p.add(_INDIRECT | _BYTE, _NET + 8 + 9)
        p.expect(number, "drop")
        p.add(_INDIRECT | _BYTE, _NET + 8)
        p.add(_AND, 0xF)
        p.add(_LSH, 2)
    else:
        p.add(_INDIRECT | _BYTE, _NET + 8 + 6)
        p.expect(number, "drop")
        p.add(_LD_IMM, 40)
    p.add(_ADD_X)
    p.add(_ADD, 8)
    p.add(_TAX)
    match probe.proto:
        case "tcp":
            _word(p, 4, probe.number, "drop")
        case "udp":
            _word(p, 0, probe.ident << 16 | (probe.port or 0), "quoted-mark")
        case _:
            _word(p, 4, probe.ident << 16 | probe.number & 0xFFFF, "quoted-mark")
    p.add(_JUMP, 0, "accept")
    if probe.proto != "tcp":
        p.label("quoted-mark")
        _match_mark(p, probe, "drop")
