"""The bpf() system call: a ring buffer, and a program on a tracepoint.

Everything lives in file descriptors, and ends with the last of them, also when the process is
killed. Source: bpf(2), include/uapi/linux/bpf.h, kernel/bpf/ringbuf.c.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import struct
from collections.abc import Iterator
from contextlib import suppress

_NUMBERS = {
    "x86_64": 321,
    "aarch64": 280,
    "riscv64": 280,
    "loongarch64": 280,
    "ppc64le": 361,
    "s390x": 351,
}
_MAP_CREATE, _PROG_LOAD, _RAW_TRACEPOINT_OPEN = 0, 5, 17
_RINGBUF, _RAW_TRACEPOINT = 27, 17
_LOG = 1 << 14
_NO_LOG = 16  # bytes of zeros in its place
_BUSY, _DISCARD = 1 << 31, 1 << 30


def call(command: int, attributes: bytes) -> int:
    """A new file descriptor, closed in programs that are started.

    Raises:
        OSError: the kernel, or the rights of the process, do not allow it.

    """
    number = _NUMBERS.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"bpf() is not known on {platform.machine()}")
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result = int(libc.syscall(number, command, buffer, len(attributes)))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


class Ring:
    """Records from programs in the kernel; ``size`` bytes, a power of two and whole pages."""

    def __init__(self, size: int = 1 << 16) -> None:
        self.fd = call(_MAP_CREATE, struct.pack("=IIII", _RINGBUF, 0, 0, size) + bytes(56))
        page = mmap.PAGESIZE
        try:
            self._consumer = mmap.mmap(self.fd, page)
            # The data follow twice, so that no record is ever broken in two.
            self._producer = mmap.mmap(self.fd, page + 2 * size, prot=mmap.PROT_READ, offset=page)
        except BaseException:
            os.close(self.fd)
            raise
        self._size = size
        self._data_at = page

    def close(self) -> None:
        """Give it back."""
        self._consumer.close()
        self._producer.close()
        os.close(self.fd)

    def read(self) -> Iterator[bytes]:
        """The records that are there."""
        (consumed,) = struct.unpack_from("=Q", self._consumer)
        while True:
            (produced,) = struct.unpack_from("=Q", self._producer)
            if consumed >= produced:
                return
            at = self._data_at + (consumed & (self._size - 1))
            (header,) = struct.unpack_from("=I", self._producer, at)
            if header & _BUSY:
                return
            length = header & ~(_BUSY | _DISCARD)
            record = self._producer[at + 8 : at + 8 + length]
            consumed += (length + 8 + 7) & ~7
            struct.pack_into("=Q", self._consumer, 0, consumed)
            if not header & _DISCARD:
                yield record


class Tracepoint:
    """A program that runs at every occurrence of a raw tracepoint, until it is closed.

    Raises:
        OSError: not allowed, or the kernel refuses the program.

    """

    def __init__(self, name: str, program: bytes) -> None:
        self._fds: list[int] = []
        self._fds.append(_load(program))
        text = ctypes.create_string_buffer(name.encode())
        try:
            self._fds.append(
                call(
                    _RAW_TRACEPOINT_OPEN,
                    struct.pack("=QIxxxx", ctypes.addressof(text), self._fds[0]),
                )
            )
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Detach it; the kernel forgets the program."""
        for fd in reversed(self._fds):
            with suppress(OSError):
                os.close(fd)
        self._fds.clear()


def _load(program: bytes) -> int:
    code = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"GPL")  # what reads kernel memory must be
    log = ctypes.create_string_buffer(_LOG)
    places = ctypes.addressof(code), ctypes.addressof(licence)
    attributes = struct.pack("=IIQQ", _RAW_TRACEPOINT, len(program) // 8, *places)
    try:
        return call(_PROG_LOAD, attributes + bytes(_NO_LOG + 80))
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EACCES):
            raise
    # Once more for the verifier's own words; without a log it is quicker.
    attributes += struct.pack("=IIQ", 1, _LOG, ctypes.addressof(log))
    try:
        return call(_PROG_LOAD, attributes + bytes(80))
    except OSError as error:
        words = log.value.decode(errors="replace").strip().splitlines()
        why = words[-2] if len(words) > 1 else error.strerror
        raise OSError(error.errno, f"the kernel refuses the program: {why}") from None
