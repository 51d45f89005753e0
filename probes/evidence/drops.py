"""Why the kernel dropped the probe: its own reason, function and device.

By BPF or not at all. The tracing file system would tell too, but not the packet's contents, so
that every drop of the machine would have to be taken in; and a tracing instance outlives the
process that made it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from kvmdiag.model.snapshot import Snapshot
from kvmdiag.probes.evidence.bpf_call import Ring, Tracepoint
from kvmdiag.probes.evidence.btf import Btf
from kvmdiag.probes.evidence.drop_program import RECORD, Offsets, program
from kvmdiag.probes.evidence.facts import KernelDrop
from kvmdiag.probes.packet import Probe
from kvmdiag.system.namespaces import identity

SYMBOLS = Path("/proc/kallsyms")
MOST = 256
"""Drops that are kept of one probe; a guest may send it back without end."""

_NO_DROPS = frozenset({"SKB_NOT_DROPPED_YET", "SKB_CONSUMED"})
_PREFIX = "SKB_DROP_REASON_"


class DropWatch:
    """Sees every drop of the probes in all namespaces of the machine, from its making to its close.

    ``source`` is the stack that sends them.

    Raises:
        OSError: the kernel or the rights of the process do not allow it.
        ValueError, KeyError: the kernel's structures are not as they are known.

    """

    def __init__(self, snapshot: Snapshot, probes: Sequence[Probe], source: str | None) -> None:
        btf = Btf()
        try:
            self._reasons = btf.values("skb_drop_reason")
        except KeyError:
            self._reasons = {}
        self._stacks = _by_inode(snapshot)
        self._source = source
        self._bridges = {
            (stack.name, link.name)
            for stack in snapshot.stacks
            for link in stack.links or ()
            if link.bridge
        }
        # The kernel's other clock is that of the sightings.
        self._clock = time.time_ns() - time.monotonic_ns()
        self._records: list[bytes] = []
        # The symbols take 30 ms: they are read while we still wait for more to happen.
        self._reader = ThreadPoolExecutor(1)
        self._text: Future[bytes] | None = None
        self._ring = Ring()
        try:
            code = program(probes, Offsets.of(btf), self._ring.fd, reasons=bool(self._reasons))
            self._tracepoint = Tracepoint("kfree_skb", code)
        except BaseException:
            self._ring.close()
            raise

    def fileno(self) -> int:
        """Readable when there is something to drain."""
        return self._ring.fd

    def close(self) -> None:
        """Stop watching."""
        self._tracepoint.close()
        self._ring.close()
        self._reader.shutdown()

    def drain(self) -> frozenset[int]:
        """Take in what has come; the numbers of the probes that were dropped so far.

        Not of those that only a guest dropped to which a copy was flooded.
        """
        for record in islice(self._ring.read(), MOST):  # no more at once, or it might never end
            if len(self._records) < MOST and self._is_loss(record):
                self._records.append(record)
        if self._records and self._text is None:
            self._text = self._reader.submit(_symbol_table)
        fields = map(RECORD.unpack, self._records)
        return frozenset(one[6] >> 1 for one in fields if self._reason(one[2]) != "OTHERHOST")

    def _is_loss(self, record: bytes) -> bool:
        """Not so where it is only a copy that nobody needs.

        A bridge that is being watched hands copies of what it bridges to the host, and the
        answer to a raw socket's ping is one to no socket besides.
        """
        _, _, reason, _, inode, _, which, link = RECORD.unpack(record)
        stack, word = self._stacks.get(inode), self._reason(reason)
        if word == "OTHERHOST":
            return (stack, _name(link)) not in self._bridges
        if word == "NO_SOCKET":
            return not which & 1 or stack != self._source
        return word not in _NO_DROPS

    def drops(self, number: int = 0) -> tuple[KernelDrop, ...]:
        """Those of one probe that were drained, in the order of time."""
        fields = sorted(
            fields for fields in map(RECORD.unpack, self._records) if fields[6] >> 1 == number
        )
        text = b"" if self._text is None else self._text.result()
        symbols = _symbols({address for _, address, *_ in fields}, text)
        return tuple(
            KernelDrop(
                direction="reply" if which & 1 else "request",
                stack=self._stacks.get(inode),
                link=_name(name),
                reason=self._reason(reason),
                symbol=symbols[address],
                time_ns=moment + self._clock,
            )
            for moment, address, reason, _, inode, _, which, name in fields
        )

    def _reason(self, number: int) -> str | None:
        if not self._reasons:
            return None
        name = self._reasons.get(number & 0xFFFFFFFF)
        return f"reason {number:#x}" if name is None else name.removeprefix(_PREFIX)


def _name(field: bytes) -> str | None:
    return field.split(b"\0")[0].decode(errors="replace") or None


def _by_inode(snapshot: Snapshot) -> dict[int, str]:
    """Names of stacks by the number of their namespace."""
    found = {}
    for stack in snapshot.stacks:
        if stack.netns is not None:
            try:
                found[identity(stack.netns)[1]] = stack.name
            except OSError:
                continue  # gone since it was listed
    return found


def _symbol_table() -> bytes:
    try:
        return SYMBOLS.read_bytes()
    except OSError:
        return b""


def _symbols(addresses: Iterable[int], text: bytes) -> Mapping[int, str]:
    """The function each address is in; the address itself where the kernel hides them."""
    text = b"\n" + text
    return {address: _symbol(text, address) or f"{address:#x}" for address in addresses}


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
