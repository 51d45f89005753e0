"""Rule by rule: what nf_tables says of the probe in one namespace.

Source: net/netfilter/nf_tables_trace.c, nft(8) "nftrace".
"""

from __future__ import annotations

import errno
import os
import secrets
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from kvmdiag.model.packet import Direction
from kvmdiag.probes.evidence.nfnetlink import NFTABLES, Channel, Message, attributes
from kvmdiag.probes.evidence.signature import recognise
from kvmdiag.probes.evidence.trace_table import BRIDGE, INET, chains, requests
from kvmdiag.probes.packet import Probe

MOST_EVENTS = 4096
"""Events that are kept of one namespace; a guest may send the probe back without end."""

_GROUP = 9  # NFNLGRP_NFTRACE
_TRACE = NFTABLES << 8 | 17
_FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_POLICY = 1
_PREFIX = "kvmdiag-"
_VERDICTS = {
    0: "drop", 1: "accept", 2: "stolen", 3: "queue", 4: "repeat",
    -1: "continue", -2: "break", -3: "jump", -4: "goto", -5: "return",
}  # fmt: skip


class Event(NamedTuple):
    """What a rule said, or with ``handle`` ``None`` the chain's policy; links by index or 0."""

    probe: int
    direction: Direction
    family: str
    table: str
    chain: str
    handle: int | None
    verdict: str
    in_index: int
    out_index: int


class NftTrace:
    """Traces the probes in the calling thread's namespace until it is closed.

    Raises:
        OSError: not to be had here.

    """

    def __init__(self, probes: Sequence[Probe]) -> None:
        self.lost = False
        self._name = f"{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
        self._packets: dict[bytes, tuple[int, Direction]] = {}
        self._chains = chains(probes)
        self._probes = probes
        self._links: dict[tuple[bytes, str, str], tuple[int, int]] = {}
        self._events: list[Event] = []
        self._ears = Channel()
        try:
            self._owner = Channel()
        except BaseException:
            self._ears.close()
            raise
        try:
            self._ears.listen(_GROUP)
            self._make_tables(probes)
        except BaseException:
            self.close()
            raise

    def _make_tables(self, probes: Sequence[Probe]) -> None:
        limited = True
        try:
            self._owner.carry_out(requests(self._name, INET, probes))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            limited = False  # a kernel without nft's limit
            self._owner.carry_out(requests(self._name, INET, probes, limited=False))
        with suppress(OSError):  # a kernel without nf_tables for bridges has no rules there
            self._owner.carry_out(requests(self._name, BRIDGE, probes, limited=limited))

    def fileno(self) -> int:
        """Readable when there is something to drain."""
        return self._ears.fileno()

    def close(self) -> None:
        """Stop tracing; the kernel deletes the tables."""
        self._owner.close()
        self._ears.close()

    def drain(self) -> None:
        """Take in what has come."""
        for _ in range(2):  # once more after an overrun
            try:
                for message in self._ears.waiting():
                    if message.kind == _TRACE and len(self._events) < MOST_EVENTS:
                        self._take(message)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.lost = True

    def events(self) -> tuple[Event, ...]:
        """What was drained, in the order it happened; without our own tables' part in it."""
        return tuple(self._events)

    def _take(self, message: Message) -> None:
        found = message.attributes
        packet, table = found.get(6, b""), _text(found.get(1, b""))
        chain, family = _text(found.get(2, b"")), _FAMILIES.get(message.family, "")
        if table.startswith(_PREFIX):
            if table == self._name and chain in self._chains:
                self._packets[packet] = self._chains[chain]
            return  # ours, or that of another trace
        if packet not in self._packets:
            # Somebody else's, or a copy, which has the trace bit and not the number. The
            # headers come with the first event of each base chain.
            known = recognise(found.get(8, b"") + found.get(9, b""), self._probes)
            if known is None:
                return
            self._packets[packet] = known
        handle = int.from_bytes(found[3], "big") if 3 in found else None
        # The links are told with the first event of each base chain.
        if 10 in found or 12 in found:
            self._links[packet, family, table] = _number(found.get(10)), _number(found.get(12))
        in_index, out_index = self._links.get((packet, family, table), (0, 0))
        probe, direction = self._packets[packet]
        if handle is None and _number(found.get(4)) != _POLICY:
            return  # the end of a chain, where nothing is decided
        self._events.append(
            Event(
                probe=probe,
                direction=direction,
                family=family,
                table=table,
                chain=chain,
                handle=handle,
                verdict=_verdict(found),
                in_index=in_index,
                out_index=out_index,
            )
        )


def _verdict(found: dict[int, bytes]) -> str:
    """``accept``, ``jump NAME`` and so on."""
    if 5 not in found:
        policy = _number(found.get(16))
        return _VERDICTS.get(policy, "")
    inner = attributes(found[5])
    if 1 not in inner:
        return ""
    (code,) = struct.unpack(">i", inner[1][:4])
    word = _VERDICTS.get(code if code < 0 else code & 0xFF, str(code))
    return f"{word} {_text(inner[2])}" if 2 in inner else word


def _number(value: bytes | None) -> int:
    return 0 if value is None else int.from_bytes(value, "big")


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")
