"""What happens next to a packet. Each layer answers with one of these; the walk carries on."""

from __future__ import annotations

import msgspec

from kvmdiag.model.packet import IPAddress, Packet
from kvmdiag.model.trace import Outcome, Reason
from kvmdiag.simulate.facts.conntrack import Tracked


class Frame(msgspec.Struct, frozen=True):
    """A packet with its Ethernet header and what the stack remembers of its way in.

    ``vlan`` is the number in its 802.1Q tag, ``None`` for a frame without.
    ``in_port`` is the bridge port it came by, kept while br_netfilter attends to it;
    ``prerouted`` is true when br_netfilter has run PREROUTING already (ip_sabotage_in).
    ``own`` is true of what the stack itself sends, until it comes in again or leaves.
    ``tracked`` is the connection that conntrack has found for it; it stays with the packet,
    translated or not, until it leaves the stack.
    """

    packet: Packet
    src_mac: str | None = None
    dst_mac: str | None = None
    in_port: str | None = None
    prerouted: bool = False
    tracked: Tracked | None = None
    vlan: int | None = None
    own: bool = False


class Originate(msgspec.Struct, frozen=True):
    """A stack sends a packet of its own; the kernel selects what is ``None``."""

    stack: str
    packet: Packet
    bound_link: str | None = None
    bound_address: IPAddress | None = None


class Transmit(msgspec.Struct, frozen=True):
    """A frame is handed to a link to be sent."""

    stack: str
    link: str
    frame: Frame


class Arrive(msgspec.Struct, frozen=True):
    """A frame comes in by a link."""

    stack: str
    link: str
    frame: Frame


class Ascend(msgspec.Struct, frozen=True):
    """A frame for this machine goes up from a link to the IP layer."""

    stack: str
    link: str
    frame: Frame


Step = Originate | Transmit | Arrive | Ascend


class Ended(Exception):  # noqa: N818  the regular end of a walk
    """A packet's way ends here, with its last hop already recorded."""

    def __init__(self, outcome: Outcome, reason: Reason) -> None:
        super().__init__(f"{outcome}: {reason}")
        self.outcome = outcome
        self.reason = reason
