"""Which rules of nf_tables our packets match in one namespace, told by the kernel's own trace.

Source: net/netfilter/nf_tables_trace.c, include/uapi/linux/netfilter/nf_tables.h (NFTA_TRACE).
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import NamedTuple

from differential.packets import Sighting, recognised
from kvmdiag.probes.evidence.nfnetlink import NFTABLES, Channel, Message, attributes

_GROUP = 9  # NFNLGRP_NFTRACE
_TRACE = NFTABLES << 8 | 17
_FAMILIES = {1: "inet", 2: "ip", 5: "netdev", 7: "bridge", 10: "ip6"}
_TABLE, _CHAIN, _HANDLE, _TYPE, _VERDICT, _ID = range(1, 7)
_NETWORK_HEADER, _TRANSPORT_HEADER, _POLICY = 8, 9, 16
_IS_POLICY, _IS_RULE = 1, 3
_CODE, _DROP = 1, 0
_OWN = "kvmdiag_differential"
_EVERYTHING = "".join(
    f"add table {family} {_OWN}\n"
    + "".join(
        f"add chain {family} {_OWN} {hook} {{ type filter hook {hook} priority -32000; }}\n"
        f"add rule {family} {_OWN} {hook} meta nftrace set 1\n"
        for hook in ("prerouting", "output")
    )
    for family in ("inet", "bridge")
)


class Place(NamedTuple):
    """A rule by its handle, or the policy of a chain."""

    family: str
    table: str
    chain: str
    handle: int | None


class RuleTrace:
    """Traces all packets of the calling thread's namespace until it is closed."""

    def __init__(self) -> None:
        self._known: dict[bytes, Sighting] = {}
        self._ears = Channel()
        try:
            self._ears.listen(_GROUP)
            subprocess.run(["nft", "-f", "-"], input=_EVERYTHING.encode(), timeout=30, check=True)
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """Readable when something was traced."""
        return self._ears.fileno()

    def close(self) -> None:
        """Listen no more."""
        self._ears.close()

    def events(self) -> Iterator[tuple[Sighting, Place, bool]]:
        """Our packets, a rule that matched or policy that decided, and whether it dropped them.

        All that has happened since this was last asked.
        """
        for message in self._ears.waiting():
            if message.kind != _TRACE:
                continue
            found = message.attributes
            packet = self._packet(found)
            kind = int.from_bytes(found.get(_TYPE, b""), "big")
            own = _text(found.get(_TABLE, b"")) == _OWN
            if packet is not None and kind in (_IS_POLICY, _IS_RULE) and not own:
                yield packet, _place(message, found), _is_drop(found)

    def _packet(self, found: dict[int, bytes]) -> Sighting | None:
        """The headers come with the first event of each base chain."""
        if _NETWORK_HEADER in found:
            headers = found[_NETWORK_HEADER] + found.get(_TRANSPORT_HEADER, b"")
            known = recognised(headers)
            if known is not None:
                self._known[found[_ID]] = known
            else:
                self._known.pop(found[_ID], None)
        return self._known.get(found.get(_ID, b""))


def _is_drop(found: dict[int, bytes]) -> bool:
    if int.from_bytes(found.get(_TYPE, b""), "big") == _IS_POLICY:
        return int.from_bytes(found.get(_POLICY, b"\1"), "big") == _DROP
    verdict = attributes(found.get(_VERDICT, b""))
    return _CODE in verdict and int.from_bytes(verdict[_CODE][3:4], "big") == _DROP


def _place(message: Message, found: dict[int, bytes]) -> Place:
    handle = int.from_bytes(found[_HANDLE], "big") if _HANDLE in found else None
    return Place(
        _FAMILIES.get(message.family, ""), _text(found[_TABLE]), _text(found[_CHAIN]), handle
    )


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode()
