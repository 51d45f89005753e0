"""Why the kernel dropped the probe: its own reason, function and device, by BPF.

Where BPF is not to be had, see ``perf_drops``, which knows less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import islice

from kvmdiag.model.snapshot import Snapshot
from kvmdiag.probes.evidence.bpf_call import Ring, Tracepoint
from kvmdiag.probes.evidence.btf import Btf
from kvmdiag.probes.evidence.bystanders import Bystanders
from kvmdiag.probes.evidence.clocks import realtime_ahead
from kvmdiag.probes.evidence.drop_program import RECORD, Offsets, program
from kvmdiag.probes.evidence.facts import KernelDrop
from kvmdiag.probes.evidence.symbols import Symbols
from kvmdiag.probes.observation import Sighting
from kvmdiag.probes.packet import Probe
from kvmdiag.system.namespaces import identity

MOST = 256
"""Drops that are kept of one probe; a guest may send it back without end."""

_PREFIX = "SKB_DROP_REASON_"


class DropWatch:
    """Sees every drop of the probes in all namespaces of the machine, from its making to its close.

    ``source`` is the stack that sends them. ``knows_copies``: it need not be the very packet
    that was seen on a link.

    Raises:
        OSError: the kernel or the rights of the process do not allow it.
        ValueError, KeyError: the kernel's structures are not as they are known.

    """

    knows_copies = True
    lost = False

    def __init__(self, snapshot: Snapshot, probes: Sequence[Probe], source: str | None) -> None:
        offsets, self._reasons = _kernel()
        self._stacks = _by_inode(snapshot)
        self._bystanders = Bystanders(snapshot, source)
        # The kernel's other clock is that of the sightings.
        self._clock = realtime_ahead()
        self._records: list[bytes] = []
        self._symbols = Symbols()
        self._ring = Ring()
        try:
            code = program(probes, offsets, self._ring.fd, reasons=bool(self._reasons))
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
        self._symbols.close()

    def drain(self) -> frozenset[int]:
        """Take in what has come; the numbers of the probes that were dropped so far.

        Not of those that only a guest dropped to which a copy was flooded.
        """
        for record in islice(self._ring.read(), MOST):  # no more at once, or it might never end
            if len(self._records) < MOST and self._is_loss(record):
                self._records.append(record)
        if self._records:
            self._symbols.needed()  # read while we still wait for more to happen
        fields = map(RECORD.unpack, self._records)
        return frozenset(one[6] >> 1 for one in fields if self._reason(one[2]) != "OTHERHOST")

    def _is_loss(self, record: bytes) -> bool:
        _, _, reason, _, inode, _, which, link = RECORD.unpack(record)
        stack, word = self._stacks.get(inode), self._reason(reason)
        return self._bystanders.is_loss(stack, _name(link), word, reply=bool(which & 1))

    def drops(self, number: int, sightings: Sequence[Sighting]) -> tuple[KernelDrop, ...]:
        """Those of one probe that were drained, in the order of time."""
        del sightings  # the program knows the packet itself
        fields = sorted(
            fields for fields in map(RECORD.unpack, self._records) if fields[6] >> 1 == number
        )
        symbols = self._symbols.names({address for _, address, *_ in fields})
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


@cache
def _kernel() -> tuple[Offsets, Mapping[int, str]]:
    """Where this kernel keeps what, and its reasons by number; it takes 0.1 s to find out."""
    btf = Btf()
    try:
        reasons = btf.values("skb_drop_reason")
    except KeyError:
        reasons = {}
    return Offsets.of(btf), reasons


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
