"""What a rule sees: the packet, its devices and its connection."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from kvmdiag.model.netfilter import Family, HookName
from kvmdiag.model.packet import Packet
from kvmdiag.model.trace import RuleRef
from kvmdiag.simulate.facts.conntrack import UNTRACKED, Tracked
from kvmdiag.simulate.facts.stack_view import StackView

PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "arp": -1}
"""Protocol numbers by the names a packet has; ARP has none."""

_NO_PROTOCOL = -1


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """A packet at a hook.

    ``in_link`` and ``out_link`` are the devices as netfilter names them there (the bridge,
    for a bridged frame), ``in_port`` and ``out_port`` the bridge ports, known only while
    br_netfilter handles the frame. ``own`` tells whether a socket of this stack sent the
    packet, ``None`` where the kernel may have found the one that it is for (early demux).
    """

    view: StackView
    hook: HookName
    family: Family
    packet: Packet
    in_link: str | None = None
    out_link: str | None = None
    in_port: str | None = None
    out_port: str | None = None
    bridged: bool = False
    own: bool | None = None
    src_mac: str | None = None
    dst_mac: str | None = None


class Seen:
    """A packet at a hook, taken apart once for the many rules that look at it.

    Addresses and the protocol are numbers, ``family`` is the packet's own (a table of bridge
    or inet sees both). ``tracked`` is ``None`` where conntrack is not active or has not seen
    the packet yet. Rules change ``mark``, ``life`` (its time to live), ``connection_mark``,
    ``zone`` and ``notrack``; those that matched are noted in ``matched``, and sets they added
    the packet to or took it from in ``set_changes``, which all hooks of a stack share.
    """

    __slots__ = (
        "at",
        "connection_mark",
        "dport",
        "dst",
        "family",
        "in_link",
        "life",
        "mark",
        "matched",
        "notrack",
        "out_link",
        "packet",
        "proto",
        "set_changes",
        "sport",
        "src",
        "tracked",
        "version",
        "zone",
    )

    def __init__(
        self,
        at: Context,
        packet: Packet,
        tracked: Tracked | None,
        set_changes: set[object] | None = None,
    ) -> None:
        self.at = at
        self.in_link = at.in_link
        self.out_link = at.out_link
        self.notrack = tracked is UNTRACKED
        self.zone = 0
        self.tracked = tracked
        self.connection_mark = tracked.mark if tracked is not None else 0
        self.matched: list[RuleRef] = []
        self.set_changes: set[object] = set() if set_changes is None else set_changes
        self.take(packet)

    def take(self, packet: Packet) -> None:
        """See that packet from now on."""
        self.packet = packet
        self.family = packet.family
        self.version = packet.version
        self.src = int(packet.src)
        self.dst = int(packet.dst)
        self.proto = PROTOCOLS.get(packet.proto, _NO_PROTOCOL)
        self.sport = packet.sport
        self.dport = packet.dport
        self.mark = packet.mark
        self.life = packet.ttl

    def copy(self) -> Seen:
        """The same, to be changed apart from this one."""
        other = Seen.__new__(Seen)
        for name in Seen.__slots__:
            setattr(other, name, getattr(self, name))
        other.matched = self.matched.copy()
        other.set_changes = self.set_changes.copy()
        return other

    def adopt(self, other: Seen) -> None:
        """Take over what rules changed in a copy."""
        self.mark, self.life, self.connection_mark, self.zone, self.notrack = other.changes
        self.matched = other.matched
        self.set_changes |= other.set_changes

    @property
    def changes(self) -> tuple[int, int, int, int, bool]:
        """All that rules may have changed."""
        return self.mark, self.life, self.connection_mark, self.zone, self.notrack


Matcher = Callable[[Seen], bool | None]
"""Whether something is true of a packet; ``None`` for "cannot be told"."""


def cannot_tell(_seen: Seen) -> None:
    """The matcher of what is not understood."""
