"""The program that runs in the kernel whenever a packet is dropped, and picks out the probe.

It reads where the network header is, compares what stands behind it with the probe's
signatures, and writes one record for the few that fit; every other packet costs two or three
reads of memory. Source: include/trace/events/skb.h (kfree_skb), bpf-helpers(7),
Documentation/bpf/standardization/instruction-set.rst.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from typing import NamedTuple

from kvmdiag.probes.evidence.btf import Btf
from kvmdiag.probes.evidence.signature import (
    LENGTH,
    TUNNEL_LENGTH,
    Signature,
    in_tunnels,
    protocol,
    signatures,
)
from kvmdiag.probes.headers import IP_HEADERS, PROTOCOLS
from kvmdiag.probes.packet import Probe

RECORD = struct.Struct("=QQQIIiI16s")
"""Time (CLOCK_MONOTONIC), address, reason, ifindex, namespace, iif, number of probe and way, link
name. The number is twice that of the probe, and one more for a reply."""

_HEADER_AT, _UPPER_AT, _POINTER_AT = 88, 128, 248
_FRAME = 256
_ALIGNED = 2
"""In a tunnel the upper layer is kept so much further on: the verifier wants words aligned."""

_CONTEXT, _SKB, _PLACE, _LEFT, _STACK = 6, 7, 8, 9, 10
_PROBE_READ, _TIME, _OUTPUT = 113, 5, 130

_MOVE, _MOVE_VALUE, _ADD, _ADD_VALUE = 0xBF, 0xB7, 0x0F, 0x07
_AND_VALUE, _SHIFT_LEFT, _SHIFT_RIGHT = 0x57, 0x67, 0x77
_LOAD = {1: 0x71, 2: 0x69, 4: 0x61, 8: 0x79}
_STORE = {4: 0x63, 8: 0x7B}
_STORE_VALUE = 0x7A
_CALL, _EXIT, _LOAD_MAP, _GOTO = 0x85, 0x95, 0x18, 0x05
_UNEQUAL, _UNEQUAL_32, _EQUAL = 0x55, 0x56, 0x15


class Offsets(NamedTuple):
    """Where this kernel keeps what the program reads."""

    head: int
    network_header: int
    device: int
    skb_iif: int
    ifindex: int
    name: int
    net: int
    inode: int
    socket: int
    socket_net: int

    @classmethod
    def of(cls, btf: Btf) -> Offsets:
        """From the kernel's own description; KeyError when something is not there."""
        return cls(
            head=btf.offset("sk_buff", "head"),
            network_header=btf.offset("sk_buff", "network_header"),
            device=btf.offset("sk_buff", "dev"),
            skb_iif=btf.offset("sk_buff", "skb_iif"),
            ifindex=btf.offset("net_device", "ifindex"),
            name=btf.offset("net_device", "name"),
            net=btf.offset("net_device", "nd_net"),
            inode=btf.offset("net", "ns") + btf.offset("ns_common", "inum"),
            socket=btf.offset("sk_buff", "sk"),
            socket_net=btf.offset("sock", "__sk_common") + btf.offset("sock_common", "skc_net"),
        )


class _Code:
    """Instructions of eight bytes; jumps go forward to named places."""

    def __init__(self) -> None:
        self._code: list[tuple[int, int, int, int | str, int]] = []
        self._labels: dict[str, int] = {}

    def add(
        self, op: int, to: int = 0, source: int = 0, offset: int | str = 0, value: int = 0
    ) -> None:
        self._code.append((op, to, source, offset, value))

    def label(self, name: str) -> None:
        self._labels[name] = len(self._code)

    def load(self, size: int, to: int, source: int, offset: int) -> None:
        self.add(_LOAD[size], to, source, offset)

    def keep(self, size: int, offset: int, source: int) -> None:
        """Store a register in the record."""
        self.add(_STORE[size], _STACK, source, offset - _FRAME)

    def saved(self, size: int, to: int, offset: int) -> None:
        """Load from the record."""
        self.load(size, to, _STACK, offset - _FRAME)

    def read(self, at: int, size: int, base: int, offset: int = 0) -> None:
        """Copy kernel memory into the record; what cannot be read is zero."""
        self.add(_MOVE, 1, _STACK)
        self.add(_ADD_VALUE, 1, value=at - _FRAME)
        self.add(_MOVE_VALUE, 2, value=size)
        self.add(_MOVE, 3, base)
        self.add(_ADD_VALUE, 3, value=offset)
        self.add(_CALL, value=_PROBE_READ)

    def assembled(self) -> bytes:
        code = []
        for at, (op, to, source, offset, value) in enumerate(self._code):
            distance = self._labels[offset] - at - 1 if isinstance(offset, str) else offset
            signed = (value & 0xFFFFFFFF) - (1 << 32 if value & 1 << 31 else 0)
            code.append(struct.pack("=BBhi", op, to | source << 4, distance, signed))
        return b"".join(code)


def program(probes: Sequence[Probe], offsets: Offsets, ring: int, *, reasons: bool) -> bytes:
    """The instructions. ``ring`` is the descriptor of the ring buffer the records go to.

    All probes are of one question: alike in version and protocol. Without ``reasons`` the
    tracepoint is that of a kernel before 5.17, which gives none.
    """
    code = _Code()
    code.add(_MOVE, _CONTEXT, 1)
    code.load(8, _SKB, _CONTEXT, 0)
    for at in range(0, _FRAME, 8):
        code.add(_STORE_VALUE, _STACK, offset=at - _FRAME)
    _find_header(code, offsets)
    one = probes[0]
    plain = [(index, s) for index, probe in enumerate(probes) for s in signatures(probe)]
    _look_for(code, plain, one.version, protocol(one), _UPPER_AT, LENGTH)
    wrapped = [(index, s) for index, probe in enumerate(probes) for s in in_tunnels(probe)]
    for carrier in IP_HEADERS if wrapped else ():
        _look_for(code, wrapped, carrier, PROTOCOLS["udp"], _UPPER_AT + _ALIGNED, TUNNEL_LENGTH)
    code.add(_MOVE_VALUE, 0)
    code.add(_EXIT)
    code.label("found")
    code.keep(4, 36, 1)
    _describe(code, offsets, reasons)
    code.add(_LOAD_MAP, 1, 1, value=ring)
    code.add(0)
    code.add(_MOVE, 2, _STACK)
    code.add(_ADD_VALUE, 2, value=-_FRAME)
    code.add(_MOVE_VALUE, 3, value=RECORD.size)
    code.add(_MOVE_VALUE, 4)
    code.add(_CALL, value=_OUTPUT)
    code.add(_MOVE_VALUE, 0)
    code.add(_EXIT)
    return code.assembled()


def _find_header(code: _Code, offsets: Offsets) -> None:
    """Bring the IP header's first bytes into the record, and its place into a register."""
    code.read(_POINTER_AT, 8, _SKB, offsets.head)
    code.read(56, 2, _SKB, offsets.network_header)
    code.saved(8, _PLACE, _POINTER_AT)
    code.saved(2, 1, 56)
    code.add(_ADD, _PLACE, 1)
    code.read(_HEADER_AT, 40, _PLACE)


def _look_for(
    code: _Code,
    wanted: Sequence[tuple[int, Signature]],
    version: int,
    upper: int,
    at: int,
    length: int,
) -> None:
    """Go to "found" for one of the signatures, with the number of probe and way, else go on.

    The first bytes of the upper layer are brought to ``at`` in the record, if it is this one.
    """
    name = f"{version} {upper} {at}"
    code.saved(1, _LEFT, _HEADER_AT)
    code.add(_MOVE, 1, _LEFT)
    code.add(_SHIFT_RIGHT, 1, value=4)
    code.add(_UNEQUAL, 1, offset=f"not {name}", value=version)
    if version == 4:
        code.saved(1, 1, _HEADER_AT + 9)
        code.add(_AND_VALUE, _LEFT, value=0xF)
        code.add(_SHIFT_LEFT, _LEFT, value=2)
    else:
        code.saved(1, 1, _HEADER_AT + 6)
        code.add(_MOVE_VALUE, _LEFT, value=40)
    code.add(_UNEQUAL, 1, offset=f"not {name}", value=upper)
    code.add(_ADD, _LEFT, _PLACE)
    code.read(at, length, _LEFT)
    for number, (index, signature) in enumerate(wanted):
        _compare(code, signature, at, f"{name} other {number}")
        code.add(_MOVE_VALUE, 1, value=2 * index + (signature.direction == "reply"))
        code.add(_GOTO, offset="found")
        code.label(f"{name} other {number}")
    code.label(f"not {name}")


def _compare(code: _Code, signature: Signature, upper_at: int, otherwise: str) -> None:
    """Go on when all bytes are as they should be."""
    for start, wanted in signature.bytes:
        size = min(len(wanted), 4)
        for at in range(0, len(wanted), size):
            code.saved(size, 1, upper_at + start + at)
            value = int.from_bytes(wanted[at : at + size], sys.byteorder)
            code.add(_UNEQUAL_32, 1, offset=otherwise, value=value)


def _describe(code: _Code, offsets: Offsets, reasons: bool) -> None:
    """Fill the record with where, when and why."""
    code.add(_CALL, value=_TIME)
    code.keep(8, 0, 0)
    code.load(8, 1, _CONTEXT, 8)
    code.keep(8, 8, 1)
    if reasons:
        code.load(8, 1, _CONTEXT, 16)
        code.keep(8, 16, 1)
    code.read(32, 4, _SKB, offsets.skb_iif)
    code.read(_POINTER_AT, 8, _SKB, offsets.device)
    code.saved(8, _PLACE, _POINTER_AT)
    code.add(_EQUAL, _PLACE, offset="no device yet", value=0)
    code.read(24, 4, _PLACE, offsets.ifindex)
    code.read(40, 16, _PLACE, offsets.name)
    code.read(_POINTER_AT, 8, _PLACE, offsets.net)
    code.add(_GOTO, offset="namespace")
    # What a machine sends has a device only behind OUTPUT; its socket tells the namespace.
    code.label("no device yet")
    code.read(_POINTER_AT, 8, _SKB, offsets.socket)
    code.saved(8, _PLACE, _POINTER_AT)
    code.add(_EQUAL, _PLACE, offset="nowhere", value=0)
    code.read(_POINTER_AT, 8, _PLACE, offsets.socket_net)
    code.label("namespace")
    code.saved(8, _PLACE, _POINTER_AT)
    code.read(28, 4, _PLACE, offsets.inode)
    code.label("nowhere")
