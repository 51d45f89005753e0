"""Evidence as plain data."""

from __future__ import annotations

from typing import Literal

import msgspec

from kvmdiag.model.packet import Direction
from kvmdiag.model.trace import RuleRef

Source = Literal[
    "rule verdicts", "legacy rule verdicts", "counters", "drop reasons", "BPF", "neighbours"
]


class RuleVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule, or a chain's policy, said of the packet; in the order it happened.

    ``verdict`` is in nft's words: accept, drop, continue, jump NAME, goto NAME, return, queue,
    stolen; ``None`` where the kernel tells that the rule matched and not what came of it
    (legacy iptables). ``in_link`` and ``out_link`` are as netfilter saw them. REJECT ends in
    drop here.
    """

    direction: Direction
    rule: RuleRef
    verdict: str | None
    in_link: str | None = None
    out_link: str | None = None

    @property
    def stops(self) -> bool:
        """True when the packet ends here."""
        return self.verdict == "drop"


class KernelDrop(msgspec.Struct, frozen=True, kw_only=True):
    """The kernel freed the packet as dropped (tracepoint skb:kfree_skb).

    ``stack`` is ``None`` in a namespace that is not in the snapshot, or when the packet had no
    device any more. ``reason`` is the kernel's word without SKB_DROP_REASON_, ``None`` on kernels
    before 5.17; ``symbol`` is the function that did it. ``time_ns`` is CLOCK_REALTIME.
    """

    direction: Direction
    stack: str | None
    link: str | None
    reason: str | None
    symbol: str
    time_ns: int

    def __str__(self) -> str:
        where = f" on {self.link}" if self.link else ""
        return f"{self.reason or 'dropped'} at {self.symbol}{where}"


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A next hop that was asked for by ARP or ND and had not answered when we looked."""

    stack: str
    link: str | None
    address: str

    def __str__(self) -> str:
        where = f" on {self.link}" if self.link else ""
        return f"neighbour {self.address}{where} is INCOMPLETE"


class CounterChange(msgspec.Struct, frozen=True, kw_only=True):
    """A counter of the kernel that grew while the probe was on its way.

    Counters are everybody's: others' packets count too. ``what`` is a protocol counter
    (IpExtInNoRoutes ...) or a link's (``eth0 rx_dropped``), or ``rule`` is set.
    """

    stack: str
    by: int
    what: str = ""
    rule: RuleRef | None = None


class Unavailable(msgspec.Struct, frozen=True, kw_only=True):
    """A source of evidence that is not to be had; in one stack, or everywhere (``None``)."""

    source: Source
    why: str
    stack: str | None = None


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """All that the kernel said of one probe."""

    verdicts: tuple[RuleVerdict, ...] = ()
    drops: tuple[KernelDrop, ...] = ()
    changes: tuple[CounterChange, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    unavailable: tuple[Unavailable, ...] = ()
