"""Where the kernel that runs keeps what in its structures: /sys/kernel/btf/vmlinux.

Only what a tracing program needs: offsets of members, and the names of an enumeration.
Source: Documentation/bpf/btf.rst, include/uapi/linux/btf.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

VMLINUX = Path("/sys/kernel/btf/vmlinux")

_MAGIC = 0xEB9F
_INT, _ARRAY, _STRUCT, _UNION, _ENUM, _FUNC_PROTO = 1, 3, 4, 5, 6, 13
_VAR, _DATASEC, _DECL_TAG, _ENUM64 = 14, 15, 17, 19
_ALIASES = frozenset({8, 9, 10, 11, 18})  # typedef, volatile, const, restrict, type tag

# Words (of four bytes) that follow the three of every type: always, and per element.
_FIXED = [0] * 32
_EACH = [0] * 32
for _kind, _words in ((_INT, 1), (_ARRAY, 3), (_VAR, 1), (_DECL_TAG, 1)):
    _FIXED[_kind] = _words
for _kind, _words in (
    (_STRUCT, 3),
    (_UNION, 3),
    (_ENUM, 2),
    (_FUNC_PROTO, 2),
    (_DATASEC, 3),
    (_ENUM64, 3),
):
    _EACH[_kind] = _words


class Btf:
    """The kernel's types.

    Raises:
        OSError: the kernel does not tell them (built without CONFIG_DEBUG_INFO_BTF).
        ValueError: they are not in a form that is known.

    """

    def __init__(self, path: Path = VMLINUX) -> None:
        data = path.read_bytes()
        magic, version, _, header, types, types_length, strings, strings_length = (
            struct.unpack_from("=HBBIIIII", data)
        )
        if magic != _MAGIC or version != 1:
            raise ValueError(f"{path} is of an unknown form")
        start = header + types
        self._words = memoryview(data)[start : start + types_length].cast("I")
        self._strings = data[header + strings : header + strings + strings_length]
        self._starts = _starts(self._words)

    def offset(self, structure: str, member: str) -> int:
        """Where in the structure the member begins, in bytes; unnamed parts are looked into.

        Raises:
            KeyError: this kernel has no such structure or member.

        """
        found = self._member(self._named(_STRUCT, structure), member)
        if found is None:
            raise KeyError(f"{structure}.{member}")
        return found // 8

    def values(self, enumeration: str) -> dict[int, str]:
        """Names by number; KeyError when there is no such enumeration."""
        at = self._named(_ENUM, enumeration)
        count = self._words[at + 1] & 0xFFFF
        elements = (at + 3 + 2 * index for index in range(count))
        return {self._words[e + 1]: self._string(self._words[e]) for e in elements}

    def _string(self, at: int) -> str:
        return self._strings[at : self._strings.index(b"\0", at)].decode(errors="replace")

    def _named(self, kind: int, name: str) -> int:
        """Where that type begins. Several strings may end alike; each is stored once, whole."""
        wanted = self._strings.find(b"\0" + name.encode() + b"\0") + 1
        words = self._words
        for at in self._starts if wanted else ():
            if words[at] == wanted and words[at + 1] >> 24 & 31 == kind:
                return at
        raise KeyError(name)

    def _member(self, at: int, name: str) -> int | None:
        """Its offset in bits."""
        for member, kind, offset in self._members(at):
            if member == name:
                return offset
            if not member:
                inner = self._structure(kind)
                found = None if inner is None else self._member(inner, name)
                if found is not None:
                    return offset + found
        return None

    def _members(self, at: int) -> Iterator[tuple[str, int, int]]:
        words = self._words
        packed = words[at + 1] >> 31  # bit fields: the upper byte is the width
        for one in range(at + 3, at + 3 + 3 * (words[at + 1] & 0xFFFF), 3):
            offset = words[one + 2]
            yield self._string(words[one]), words[one + 1], offset & 0xFFFFFF if packed else offset

    def _structure(self, kind: int) -> int | None:
        """Where a structure or union begins, through its aliases."""
        words = self._words
        while kind:
            at = self._starts[kind - 1]
            what = words[at + 1] >> 24 & 31
            if what in (_STRUCT, _UNION):
                return at
            if what not in _ALIASES:
                return None
            kind = words[at + 2]
        return None


def _starts(words: memoryview) -> list[int]:
    """Where each type begins; type 1 is the first. They are 100,000, so nothing but this."""
    fixed, each = _FIXED, _EACH
    starts: list[int] = []
    at, end = 0, len(words)
    note = starts.append
    while at < end:
        note(at)
        info = words[at + 1]
        kind = info >> 24 & 31
        at += 3 + fixed[kind] + each[kind] * (info & 0xFFFF)
    return starts
