"""The functions of the running kernel, by address: /proc/kallsyms, which takes 30 ms to read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

SYMBOLS = Path("/proc/kallsyms")


class Symbols:
    """Reads them beside the rest, once they are known to be needed."""

    def __init__(self) -> None:
        self._reader = ThreadPoolExecutor(1)
        self._text: Future[bytes] | None = None

    def needed(self) -> None:
        """Start reading, unless that has been done."""
        if self._text is None:
            self._text = self._reader.submit(_table)

    def close(self) -> None:
        """Wait for the reader."""
        self._reader.shutdown()

    def names(self, addresses: Iterable[int]) -> Mapping[int, str]:
        """The function each address is in; the address itself where the kernel hides them."""
        text = b"" if self._text is None else b"\n" + self._text.result()
        return {address: _symbol(text, address) or f"{address:#x}" for address in addresses}


def _table() -> bytes:
    try:
        return SYMBOLS.read_bytes()
    except OSError:
        return b""


def _symbol(text: bytes, address: int) -> str | None:
    """The last function that begins at or before the address.

    Those whose first digits are the same are looked at, fewer digits each time, for that is
    quicker than taking all lines apart.
    """
    place = b"%016x" % address
    for digits in range(13, 8, -1):
        before = [words for words in _beginning(text, place[:digits]) if words[0] <= place]
        if before:
            return max(before)[2].decode(errors="replace")
    return None


def _beginning(text: bytes, prefix: bytes) -> Iterator[tuple[bytes, ...]]:
    at = text.find(b"\n" + prefix)
    while at >= 0:
        end = text.find(b"\n", at + 1)
        words = tuple(text[at + 1 : end if end > 0 else None].split())
        if len(words) > 2 and words[1] in (b"t", b"T", b"w", b"W"):
            yield words
        at = text.find(b"\n" + prefix, at + 1)
