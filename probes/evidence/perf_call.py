"""Tracepoints read through perf's ring buffers: records of all processors, filtered in the kernel.

Everything lives in file descriptors and ends with the last of them, also when the process is
killed. Source: perf_event_open(2), include/uapi/linux/perf_event.h, kernel/events/ring_buffer.c.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import platform
import select
import struct
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

PAGES = 256
"""Of the buffer of each processor; a power of two."""

_NUMBERS = {"x86_64": 298, "aarch64": 241, "riscv64": 241, "loongarch64": 241, "ppc64le": 319,
            "s390x": 331}  # fmt: skip
_ONLINE = Path("/sys/devices/system/cpu/online")
_ATTRIBUTES = struct.Struct("=IIQQQQQI40xi16x")  # struct perf_event_attr, 112 bytes
_TRACEPOINT, _TIME, _RAW = 2, 1 << 2, 1 << 10
_DISABLED, _WATERMARK, _USE_CLOCK = 1, 1 << 14, 1 << 25
_CLOEXEC = 8
_ENABLE, _SET_OUTPUT, _SET_FILTER = 0x2400, 0x2405, 0x40082406
_HEAD, _TAIL = 1024, 1032
_HEADER = struct.Struct("=IHH")
_SAMPLE_HEAD = struct.Struct("=QI")
_LOST, _SAMPLE = 2, 9


class Record(NamedTuple):
    """One occurrence: CLOCK_MONOTONIC in nanoseconds, and its fields, still packed."""

    time_ns: int
    event: int
    data: bytes


class Tracepoints:
    """Several tracepoints on all processors, from the making of this to its close.

    ``filters`` has for each tracepoint's number the kernel's filter expression.

    Raises:
        OSError: not allowed, or the kernel refuses one.

    """

    def __init__(self, filters: Mapping[int, str]) -> None:
        self.lost = False
        self._fds: list[int] = []
        self._rings: list[mmap.mmap] = []
        self._poll = select.epoll()
        try:
            for processor in _processors():
                self._open(processor, filters)
            for fd in self._fds:
                fcntl.ioctl(fd, _ENABLE, 0)
        except BaseException:
            self.close()
            raise

    def _open(self, processor: int, filters: Mapping[int, str]) -> None:
        """All of one processor write into one buffer, so that their order is kept."""
        first: int | None = None
        for event, expression in filters.items():
            fd = _event(event, processor)
            self._fds.append(fd)
            fcntl.ioctl(fd, _SET_FILTER, expression.encode() + b"\0")
            if first is None:
                first = fd
                self._rings.append(mmap.mmap(fd, (1 + PAGES) * mmap.PAGESIZE))
                self._poll.register(fd, select.EPOLLIN)
            else:
                fcntl.ioctl(fd, _SET_OUTPUT, first)

    def fileno(self) -> int:
        """Readable when a buffer is getting full."""
        return self._poll.fileno()

    def close(self) -> None:
        """Stop; the kernel forgets the events."""
        self._poll.close()
        for ring in self._rings:
            ring.close()
        for fd in self._fds:
            with suppress(OSError):
                os.close(fd)
        self._rings.clear()
        self._fds.clear()

    def read(self) -> Iterator[Record]:
        """What has come; of each processor in the order it happened."""
        for ring in self._rings:
            yield from self._of(ring)

    def _of(self, ring: mmap.mmap) -> Iterator[Record]:
        (head,) = struct.unpack_from("=Q", ring, _HEAD)
        (tail,) = struct.unpack_from("=Q", ring, _TAIL)
        data = _from_to(ring, tail, head)
        struct.pack_into("=Q", ring, _TAIL, head)
        at = 0
        while at + _HEADER.size <= len(data):
            kind, _, size = _HEADER.unpack_from(data, at)
            if size < _HEADER.size:
                return
            if kind == _SAMPLE:
                moment, length = _SAMPLE_HEAD.unpack_from(data, at + _HEADER.size)
                start = at + _HEADER.size + _SAMPLE_HEAD.size
                raw = data[start : start + length]
                yield Record(moment, int.from_bytes(raw[:2], sys.byteorder), raw)
            self.lost = self.lost or kind == _LOST
            at += size


def _from_to(ring: mmap.mmap, tail: int, head: int) -> bytes:
    """The bytes between, where the buffer begins anew at its end."""
    page, size = mmap.PAGESIZE, PAGES * mmap.PAGESIZE
    start, end = tail % size, head % size
    if head == tail:
        return b""
    if start < end:
        return ring[page + start : page + end]
    return ring[page + start : page + size] + ring[page : page + end]


def _event(number: int, processor: int) -> int:
    system_call = _NUMBERS.get(platform.machine())
    if system_call is None:
        raise OSError(errno.ENOSYS, f"perf_event_open() is not known on {platform.machine()}")
    attributes = _ATTRIBUTES.pack(
        _TRACEPOINT,
        _ATTRIBUTES.size,
        number,
        1,
        _TIME | _RAW,
        0,
        _DISABLED | _WATERMARK | _USE_CLOCK,
        PAGES * mmap.PAGESIZE // 4,
        1,
    )  # fmt: skip  (1: CLOCK_MONOTONIC)
    libc = ctypes.CDLL(None, use_errno=True)
    held = ctypes.create_string_buffer(attributes, len(attributes))
    result = int(libc.syscall(system_call, held, -1, processor, -1, _CLOEXEC))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _processors() -> Iterator[int]:
    """``0-3,5`` and so on."""
    for part in _ONLINE.read_text().strip().split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)
