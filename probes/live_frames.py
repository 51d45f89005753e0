"""Frames that enter a link as if they had just been received, by a test run of an XDP program.

The program passes everything; it is attached to nothing and gone with its descriptor. What it
passes goes up the stack as received on the link named in the context (Linux 5.18 and later).
Source: Documentation/bpf/bpf_prog_run.rst, net/bpf/test_run.c bpf_test_run_xdp_live.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

from kvmdiag.errors import NotReadableError
from kvmdiag.system.namespaces import entered

LONGEST_FRAME = 3000
"""A frame must fit a page beside its head room (``TEST_XDP_FRAME_SIZE``)."""

_SYSTEM_CALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351, "ppc64le": 361}
_PROG_LOAD, _PROG_TEST_RUN = 5, 10
_SHORTEST = 14  # an Ethernet header
_XDP, _XDP_PASS, _LIVE_FRAMES = 6, 2, 2
_PASS = struct.pack("=BBhi", 0xB7, 0, 0, _XDP_PASS) + struct.pack("=BBhi", 0x95, 0, 0, 0)
_LOAD = struct.Struct("=IIQQ")
_CONTEXT = struct.Struct("=6I")  # struct xdp_md
_RUN = struct.Struct("=4I2Q4I2Q3I4x")


class LiveFrames:
    """Puts frames on one link, as received; a context manager.

    Raises:
        NotReadableError: the kernel is too old for it, or it is not allowed.

    """

    how = "by BPF"

    def __init__(self, netns: str, index: int) -> None:
        self._netns, self._index = netns, index
        instructions = ctypes.create_string_buffer(_PASS, len(_PASS))
        licence = ctypes.create_string_buffer(b"GPL")
        count = len(_PASS) // 8
        load = _LOAD.pack(_XDP, count, ctypes.addressof(instructions), ctypes.addressof(licence))
        try:
            self._program = _bpf(_PROG_LOAD, load)
        except OSError as error:
            raise NotReadableError(f"no BPF program may be run ({error.strerror})") from None

    def __enter__(self) -> LiveFrames:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._program)

    def put(self, frame: bytes) -> None:
        """Let the link receive this Ethernet frame.

        Raises:
            NotReadableError: the kernel does not do it.

        """
        try:
            self._put(frame)
        except OSError as error:
            raise NotReadableError(
                f"the kernel does not put the frame on the link: {error.strerror}"
            ) from None

    def works(self) -> bool:
        """Whether this kernel does it: a new one finds the batch too big, an old one the flag."""
        try:
            self._put(bytes(_SHORTEST), batch=1 << 20)
        except OSError as error:
            return error.errno == errno.E2BIG
        return True

    def _put(self, frame: bytes, batch: int = 1) -> None:
        data = ctypes.create_string_buffer(frame, len(frame))
        context = _CONTEXT.pack(0, len(frame), 0, self._index, 0, 0)
        held = ctypes.create_string_buffer(context, len(context))
        run = _RUN.pack(
            self._program, 0, len(frame), 0, ctypes.addressof(data), 0,
            1, 0, len(context), 0, ctypes.addressof(held), 0,
            _LIVE_FRAMES, 0, batch,
        )  # fmt: skip
        with entered(self._netns):  # the link's number counts in the caller's namespace
            _bpf(_PROG_TEST_RUN, run)


def _bpf(command: int, attributes: bytes) -> int:
    number = _SYSTEM_CALL.get(platform.machine())
    if number is None:
        raise OSError(0, f"not on {platform.machine()}")
    libc = ctypes.CDLL(None, use_errno=True)
    held = ctypes.create_string_buffer(attributes, len(attributes))
    result: int = libc.syscall(number, command, held, len(attributes))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
