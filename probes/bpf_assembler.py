"""Classic BPF, assembled: instructions with named jump targets.

Offsets are relative to the network header (``SKF_NET_OFF``), so that one program serves
packet sockets and raw sockets, with and without a link layer. A load beyond the end of a
packet ends the program with 0: shorter patterns must be tried first.
Source: Documentation/networking/filter.rst, include/uapi/linux/filter.h.
"""

from __future__ import annotations

import struct

NET = -0x100000
PROTOCOL = -0x1000  # SKF_AD_PROTOCOL: the frame's EtherType
ABSOLUTE, INDIRECT, RET, LD_IMM, LDX_IMM = 0x20, 0x40, 0x06, 0x00, 0x01
HALF, BYTE = 0x08, 0x10
OR, AND, LSH, RSH, ADD, ADD_X, TAX, MSH = 0x44, 0x54, 0x64, 0x74, 0x04, 0x0C, 0x07, 0xB1
JEQ, JSET, JUMP = 0x15, 0x45, 0x05

_Instruction = tuple[int, int, str, str]


class Program:
    """Instructions with named jump targets; an empty name is the next instruction.

    ``base`` is where the IP packet begins that is looked into: ``NET``, or behind that.
    """

    def __init__(self, base: int = NET) -> None:
        self.base = base
        self._code: list[_Instruction] = []
        self._labels: dict[str, int] = {}

    def label(self, name: str) -> None:
        """Name the next instruction."""
        self._labels[name] = len(self._code)

    def add(self, code: int, value: int = 0, yes: str = "", no: str = "") -> None:
        """Append an instruction; ``yes`` and ``no`` are where it jumps."""
        self._code.append((code, value & 0xFFFFFFFF, yes, no))

    @property
    def length(self) -> int:
        """How many instructions there are so far."""
        return len(self._code)

    def expect(self, value: int, otherwise: str) -> None:
        """Go on when A is ``value``."""
        self.add(JEQ, value, "", otherwise)

    def word(self, offset: int, value: int, otherwise: str) -> None:
        """Compare four bytes of the upper layer, whose start X holds."""
        self.add(INDIRECT, self.base + offset)
        self.expect(value, otherwise)

    def assembled(self) -> bytes:
        """``struct sock_filter`` after ``struct sock_filter``."""
        return b"".join(self._encode(at, *one) for at, one in enumerate(self._code))

    def _encode(self, at: int, code: int, value: int, yes: str, no: str) -> bytes:
        def distance(name: str) -> int:
            return self._labels[name] - at - 1 if name else 0

        if code == JUMP:
            return struct.pack("=HBBI", code, 0, 0, distance(yes))
        return struct.pack("=HBBI", code, distance(yes), distance(no), value)
