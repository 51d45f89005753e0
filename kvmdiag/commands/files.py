"""Reading and writing the files a user names; what goes wrong becomes one line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kvmdiag.errors import InputError

if TYPE_CHECKING:
    from kvmdiag.model.snapshot import Snapshot

# A snapshot of a large host is a few MiB; the codec bounds what it unpacks to.
LARGEST_FILE = 256 * 1024 * 1024


def read_snapshot(path: Path) -> Snapshot:
    """The snapshot in that file.

    Raises:
        InputError: it is missing, too large, damaged or of an unknown version.

    """
    from kvmdiag.model.codec import load

    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > LARGEST_FILE:
        raise InputError(f"{path} is larger than any snapshot")
    try:
        return load(data)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def write(path: Path, content: str | bytes) -> None:
    """Write a whole file.

    Raises:
        InputError: it cannot be written.

    """
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    try:
        path.write_bytes(data)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
