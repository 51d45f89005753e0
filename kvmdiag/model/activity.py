"""What goes on in a stack: who listens, which connections are tracked, what was counted.

Source: proc(5), nf_conntrack-sysctl.rst, include/uapi/linux/netfilter/nf_conntrack_common.h.
"""

from __future__ import annotations

from collections.abc import Mapping

from kvmdiag.model.fact import Fact
from kvmdiag.model.link_kinds import Process


class ListeningSocket(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A TCP socket that listens, or a UDP socket that takes what comes from anybody.

    ``address`` is ``0.0.0.0`` or ``::`` for all; such an IPv6 socket takes IPv4 as well unless
    it is ``only_v6``. ``links`` is the one link that it serves (SO_BINDTODEVICE), empty when it
    serves all. ``processes`` hold it. ``None`` is what could not be read.
    """

    protocol: str
    address: str
    port: int
    uid: int
    inode: int
    processes: tuple[Process, ...] | None = None
    links: tuple[str, ...] | None = None
    only_v6: bool | None = None

    @property
    def version(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.address else 4

    def serves(self, *links: str | None) -> bool | None:
        """Whether it takes what comes in by these: a link, and the VRF that it is a port of.

        ``None`` when that is not known.
        """
        if self.links is None:
            return None
        return not self.links or any(link in self.links for link in links)

    def hears(self, address: str, *links: str | None) -> bool | None:
        """Whether it takes what is sent to an address of its stack and comes in by these links."""
        if self.address == address:
            return self.serves(*links)
        everywhere = ("::",) if ":" in address else ("0.0.0.0", "::")  # noqa: S104 - compared
        if self.address not in everywhere:
            return False
        if self.address == "::" and ":" not in address and self.only_v6 is not False:
            return None if self.only_v6 is None and self.serves(*links) is not False else False
        return self.serves(*links)


class Conntrack(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """Connection tracking of a stack: how full it is, and what it counted on all CPUs.

    ``stats`` are those of ``conntrack -S``: found, invalid, insert_failed, drop, early_drop ...
    """

    count: int
    maximum: int
    stats: Mapping[str, int] = {}


class FlowTuple(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """One direction of a flow. Ports are ``None`` where the protocol has none; ICMP has an id."""

    source: str
    destination: str
    source_port: int | None = None
    destination_port: int | None = None
    icmp_id: int | None = None
    icmp_type: int | None = None


class Flow(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A tracked connection; where ``reply`` is not ``original`` turned round, it is translated.

    ``status`` holds the words of conntrack(8) and the kernel: seen-reply, assured, confirmed,
    src-nat, dst-nat, dying ...; src-nat-done and dst-nat-done: nat rules are not asked again,
    translated or not. ``timeout`` is in seconds.
    """

    protocol: str
    original: FlowTuple
    reply: FlowTuple
    status: frozenset[str] = frozenset()
    mark: int = 0
    zone: int = 0
    timeout: int | None = None
    tcp_state: str | None = None
