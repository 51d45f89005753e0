"""Locks between processes, by name; what a process held is free again once it has ended."""

from __future__ import annotations

import fcntl
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kvmdiag.errors import LabError


@contextmanager
def held(folder: Path, name: str) -> Iterator[None]:
    """Let no other process hold the lock of that name in that folder, made if it is not there.

    One byte of one file stands for each name (fcntl(2), record locks), so that there are no
    files to clear away; two names that share a byte only wait for each other. Two threads of
    one process do not keep each other out.

    Raises:
        LabError: there can be no such folder or file.

    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LabError(f"cannot use {folder}: {error.strerror}") from None
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX, 1, zlib.crc32(name.encode()))
        yield
    finally:
        os.close(descriptor)
