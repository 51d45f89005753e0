"""Archives that a kernel unpacks as its first file system (initramfs).

Source: Documentation/driver-api/early-userspace/buffer-format.rst, cpio(5) "new ASCII format".
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass

_ALIGN = 4


@dataclass(frozen=True)
class Entry:
    """A file, a link (``data`` is where it leads) or, without data, a folder."""

    mode: int
    data: bytes = b""


def file(data: bytes, *, executable: bool = False) -> Entry:
    """A plain file."""
    return Entry(stat.S_IFREG | (0o755 if executable else 0o644), data)


def link(target: str) -> Entry:
    """A symbolic link."""
    return Entry(stat.S_IFLNK | 0o777, target.encode())


def device(mode: int = 0o600) -> Entry:
    """The console, which the first program is given before anything is mounted."""
    return Entry(stat.S_IFCHR | mode)


def archive(entries: Mapping[str, Entry]) -> bytes:
    """The archive of these files by path, without a leading slash; folders come by themselves."""
    everything = {folder: Entry(stat.S_IFDIR | 0o755) for folder in _folders(entries)} | {**entries}
    parts = [_record(number, path, everything[path]) for number, path in enumerate(everything, 1)]
    return b"".join([*parts, _record(0, "TRAILER!!!", Entry(0))])


def _folders(paths: Mapping[str, Entry]) -> list[str]:
    found: set[str] = set()
    for path in paths:
        parts = path.split("/")[:-1]
        found.update("/".join(parts[: depth + 1]) for depth in range(len(parts)))
    return sorted(found)


def _record(number: int, path: str, entry: Entry) -> bytes:
    name = path.encode() + b"\0"
    # The only device ever written is /dev/console, 5:1.
    major, minor = (5, 1) if stat.S_ISCHR(entry.mode) else (0, 0)
    fields = (number, entry.mode, 0, 0, 1, 0, len(entry.data), 0, 0, major, minor, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _padded(header + name) + _padded(entry.data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % _ALIGN)
