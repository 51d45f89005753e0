"""What was seen of a probe: pure data."""

from __future__ import annotations

from typing import Literal

import msgspec

from kvmdiag.model.link import LinkRef
from kvmdiag.model.packet import Direction, Packet
from kvmdiag.model.trace import Hop
from kvmdiag.probes.evidence.facts import Evidence
from kvmdiag.probes.packet import Probe

Passing = Literal["in", "out", "otherhost"]
RESET = "the connection was reset: nobody listens there, or a firewall says no"

AnswerKind = Literal["reply", "refused", "error"]


class CapturedFrame(msgspec.Struct, frozen=True, kw_only=True):
    """The frame as it was captured.

    ``hardware`` is its link's type (ARPHRD_*), ``data`` its first bytes, ``length`` how many
    it had.
    """

    hardware: int
    data: bytes
    length: int


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """A packet of the probe, seen passing a link.

    ``direction_on_link`` is ``in`` or ``out`` as seen from the stack; ``otherhost`` is a frame
    that came in for another machine, as bridged frames do. ``direction`` is that of the
    travel; an ICMP error that quotes the probe travels as a reply and has ``quoted`` set.
    In a tunnel ``packet`` is what passes the link, and ``carried`` is the probe's own in it.
    ``time_ns`` is the kernel's time stamp, in nanoseconds of CLOCK_REALTIME.
    """

    stack: str
    link: str
    direction_on_link: Passing
    direction: Direction
    packet: Packet
    time_ns: int
    quoted: bool = False
    carried: Packet | None = None
    frame: CapturedFrame | None = None

    @property
    def place(self) -> LinkRef:
        """The stack and link."""
        return LinkRef(self.stack, self.link)

    @property
    def own(self) -> Packet:
        """The probe's own packet, whatever carries it."""
        return self.carried or self.packet

    @property
    def tunnels(self) -> int:
        """How many it is in here."""
        return 0 if self.carried is None else 1


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the probe's own socket got: past every filter of the source's kernel.

    ``refused`` is a TCP reset, or the destination's own word that nobody listens; ``error`` is
    another ICMP error, or a refusal of the source's own kernel to send, told in ``text``.
    ``local`` is true for the latter. ``mtu`` is the size that an error "too big" says would pass.
    """

    kind: AnswerKind
    text: str
    time_ns: int
    local: bool = False
    mtu: int | None = None


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything seen of one probe, in the order of time.

    ``answer`` is ``None`` when the source's socket got nothing within ``waited`` seconds.
    ``watched`` are the stacks in which a capture ran; ``blind`` tells of each other stack why
    none did. ``truncated`` is true when more was seen than is kept; ``bridges_shown`` is false
    when bridges could not be made to show what they merely bridge. ``remarks`` say how the
    probe was sent and what was assumed, where it did not simply come from inside its source.
    ``insiders`` are guests whose own word it is what was seen inside them.
    ``doubt`` says why an answer may not be the destination's own. ``evidence`` is what the
    kernel itself said of the probe, ``None`` when it was not asked.
    """

    probe: Probe
    sent_ns: int
    waited: float
    sightings: tuple[Sighting, ...]
    answer: Answer | None = None
    watched: frozenset[str] = frozenset()
    blind: tuple[tuple[str, str], ...] = ()
    truncated: bool = False
    bridges_shown: bool = True
    remarks: tuple[str, ...] = ()
    insiders: tuple[str, ...] = ()
    doubt: str | None = None
    evidence: Evidence | None = None

    @property
    def reached(self) -> bool:
        """True when the source's own socket got the reply.

        A reply captured on the source's NIC is not enough: rp_filter or INPUT may still drop
        it there.
        """
        return self.answer is not None and self.answer.kind == "reply"

    def travelling(self, direction: Direction) -> tuple[Sighting, ...]:
        """The sightings of one direction of travel, without ICMP errors."""
        return tuple(s for s in self.sightings if s.direction == direction and not s.quoted)

    def looked_for(self, hop: Hop) -> bool:
        """Whether somebody looked for what the hop's link shows.

        In a tunnel it is looked for by our own captures only, and not in a tunnel's tunnel.
        """
        if hop.link is None or hop.stack not in self.watched:
            return False
        if not hop.tunnels:
            return True
        inside = hop.tunnels == 1 and hop.packet.dport in self.probe.tunnels
        return inside and hop.stack not in self.insiders

    @property
    def last_seen(self) -> LinkRef | None:
        """Where the packet was last: of the reply if there was one, else of the request."""
        seen = self.travelling("reply") or self.travelling("request")
        return seen[-1].place if seen else None
