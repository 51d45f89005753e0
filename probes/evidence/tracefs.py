"""The kernel's list of its tracepoints, read without leaving anything mounted.

Where no tracefs is mounted, one is mounted onto nothing: it hangs on a file descriptor and is
gone with it, however the process ends. (/sys/kernel/debug/tracing is not looked at: the kernel
would mount it there, and leave it.) Nothing is ever written.
Source: fsopen(2), fsmount(2), Documentation/trace/events.rst.
"""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path
from typing import NamedTuple

MOUNTED = Path("/sys/kernel/tracing")

_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432  # on every architecture
_CLOEXEC, _CREATE = 1, 6
_LARGEST = 1 << 20
_FIELD = re.compile(r"^\tfield:[^;]*?(\w+)(?:\[\w*\])?;\toffset:(\d+);\tsize:(\d+);", re.MULTILINE)
_NAMED = re.compile(r'\{ (0x[0-9a-f]+|\d+), "(\w+)" \}')


class Event(NamedTuple):
    """One tracepoint: its number, offset and size of each field, names of its enumeration."""

    number: int
    fields: dict[str, tuple[int, int]]
    names: dict[int, str]


def events(*paths: str) -> tuple[Event, ...]:
    """Those tracepoints (``skb/kfree_skb``), in this order.

    Raises:
        OSError: the kernel or the rights of the process do not allow it, or there is none.
        ValueError: what the kernel says of one is not understood.

    """
    with_path = MOUNTED / "events" / paths[0] / "id"
    base = os.open(MOUNTED, os.O_PATH | os.O_CLOEXEC) if with_path.exists() else _detached()
    try:
        return tuple(_event(base, path) for path in paths)
    finally:
        os.close(base)


def _detached() -> int:
    """A tracefs that is mounted nowhere."""
    libc = ctypes.CDLL(None, use_errno=True)

    def call(number: int, *arguments: int | bytes | None) -> int:
        result = int(libc.syscall(number, *arguments))
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"no tracefs: {os.strerror(code)}")
        return result

    context = call(_FSOPEN, b"tracefs", _CLOEXEC)
    try:
        call(_FSCONFIG, context, _CREATE, None, None, 0)
        return call(_FSMOUNT, context, _CLOEXEC, 0)
    finally:
        os.close(context)


def _event(base: int, path: str) -> Event:
    number, layout = (_read(base, f"events/{path}/{file}") for file in ("id", "format"))
    fields = {name: (int(at), int(size)) for name, at, size in _FIELD.findall(layout)}
    names = {int(value, 0): name for value, name in _NAMED.findall(layout)}
    return Event(int(number), fields, names)


def _read(base: int, path: str) -> str:
    with open(
        path, encoding="ascii", errors="replace", opener=lambda p, f: os.open(p, f, dir_fd=base)
    ) as file:
        return file.read(_LARGEST)
