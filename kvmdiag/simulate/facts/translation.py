"""Which addresses and ports a connection gets when it is translated.

Source: net/netfilter/nf_nat_core.c (get_unique_tuple, find_best_ips_proto,
nf_nat_l4proto_unique_tuple, nf_nat_used_tuple); include/linux/jhash.h.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from kvmdiag.model.packet import KERNEL_CHOOSES, IPAddress
from kvmdiag.simulate.facts.addresses import parse_address
from kvmdiag.simulate.facts.conntrack import Manipulation, Tuple

_ALL = 0xFFFFFFFF
_WORD = 4  # bytes


class Wanted(msgspec.Struct, frozen=True):
    """What a translation may lead to: addresses and ports from the first to the last.

    Without ``ports`` the packet's own is kept where that can be. ``random`` leaves the port to
    the kernel; ``persistent`` gives a client the same address whomever it asks.
    """

    first: IPAddress
    last: IPAddress
    ports: tuple[int, int] | None = None
    random: bool = False
    persistent: bool = False


def unique_tuple(
    current: Tuple, wanted: Wanted, manipulation: Manipulation, used: Callable[[Tuple], bool]
) -> Tuple:
    """What the packets of a connection look like after the manipulation.

    ``current`` is how they look before it; ``used`` says whether the answers to a tuple would
    be taken for those of another connection. A port that the kernel draws by lot is
    :data:`KERNEL_CHOOSES`.
    """
    source = manipulation == "source"
    mine, port = (current.src, current.sport) if source else (current.dst, current.dport)
    low, high = int(wanted.first), int(wanted.last)
    ports = None if current.proto in ("icmp", "icmpv6") else wanted.ports
    allowed = ports is None or port is None or ports[0] <= port <= ports[1]
    in_range = low <= int(mine) <= high and allowed
    if source and not wanted.random and in_range and not used(current):
        return current
    address = wanted.first if low == high else _spread(current, wanted)
    moved = replace(current, src=address) if source else replace(current, dst=address)
    if not wanted.random and allowed:
        fixed = ports is not None and ports[0] == ports[1]
        if fixed or not used(moved):
            return moved
    return _another_port(moved, ports, wanted, source=source, used=used)


def _another_port(
    moved: Tuple,
    ports: tuple[int, int] | None,
    wanted: Wanted,
    *,
    source: bool,
    used: Callable[[Tuple], bool],
) -> Tuple:
    if moved.sport is None:
        return moved
    if moved.proto in ("icmp", "icmpv6"):
        return replace(moved, sport=KERNEL_CHOOSES, dport=KERNEL_CHOOSES)
    if ports is None and not source:
        return moved
    if ports is not None and (ports[0] == ports[1] or not (source or wanted.random)):
        tries = (_with_port(moved, port, source=source) for port in range(ports[0], ports[1] + 1))
        return next((one for one in tries if not used(one)), moved)
    return _with_port(moved, KERNEL_CHOOSES, source=source)


def _with_port(given: Tuple, port: int, *, source: bool) -> Tuple:
    return replace(given, sport=port) if source else replace(given, dport=port)


def _spread(current: Tuple, wanted: Wanted) -> IPAddress:
    """The address of a range that the kernel gives to this pair of machines.

    It is a hash without a secret, the same after every boot; computed as on a little-endian
    machine.
    """
    src, dst = _words(current.src), _words(current.dst)
    last_word = 0 if current.src.version == 4 else 3
    start = 0 if wanted.persistent else dst[last_word] ^ current.zone
    number = _jhash2(src, start)
    low, high = _host_words(wanted.first), _host_words(wanted.last)
    found: list[int] = []
    full = False
    for position in range(last_word + 1):
        first, span = (0, _ALL) if full else (low[position], high[position] - low[position] + 1)
        word = (first + (number * (span & _ALL) >> 32)) & _ALL
        full = full or word != high[position]
        found.append(word)
        if not wanted.persistent:
            number ^= dst[position]
    packed = b"".join(word.to_bytes(_WORD, "big") for word in found)
    return parse_address(str(type(wanted.first)(packed)))


def _words(address: IPAddress) -> list[int]:
    """The four words of ``union nf_inet_addr`` as a little-endian machine reads them."""
    packed = address.packed.ljust(4 * _WORD, b"\0")
    return [int.from_bytes(packed[n : n + _WORD], "little") for n in range(0, len(packed), _WORD)]


def _host_words(address: IPAddress) -> list[int]:
    packed = address.packed
    return [int.from_bytes(packed[n : n + _WORD], "big") for n in range(0, len(packed), _WORD)]


def _jhash2(words: list[int], start: int) -> int:
    """Bob Jenkins' lookup3 over four words."""
    a = b = c = (0xDEADBEEF + len(words) * _WORD + start) & _ALL
    a, b, c = _mixed(a + words[0], b + words[1], c + words[2])
    return _final(a + words[3], b, c)


def _rotated(word: int, by: int) -> int:
    word &= _ALL
    return (word << by | word >> 32 - by) & _ALL


def _mixed(a: int, b: int, c: int) -> tuple[int, int, int]:
    for first, second, third in ((4, 6, 8), (16, 19, 4)):
        a = ((a - c) & _ALL) ^ _rotated(c, first)
        c = (c + b) & _ALL
        b = ((b - a) & _ALL) ^ _rotated(a, second)
        a = (a + c) & _ALL
        c = ((c - b) & _ALL) ^ _rotated(b, third)
        b = (b + a) & _ALL
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    c = ((c ^ b) - _rotated(b, 14)) & _ALL
    a = ((a ^ c) - _rotated(c, 11)) & _ALL
    b = ((b ^ a) - _rotated(a, 25)) & _ALL
    c = ((c ^ b) - _rotated(b, 16)) & _ALL
    a = ((a ^ c) - _rotated(c, 4)) & _ALL
    b = ((b ^ a) - _rotated(a, 14)) & _ALL
    return ((c ^ b) - _rotated(b, 24)) & _ALL
