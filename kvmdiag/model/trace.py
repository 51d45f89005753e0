"""The way of a packet: hops, what decided at each, and how it ended."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from kvmdiag.model.link import LinkRef
from kvmdiag.model.netfilter import Family
from kvmdiag.model.packet import Direction, Packet
from kvmdiag.model.question import Question


class Outcome(StrEnum):
    """How a packet's way ends; a closed set.

    DELIVERED   a socket or the kernel of the destination got it
    DROPPED     gone without a word
    REJECTED    gone, and the sender was told
    NO_ROUTE    a stack on the way has no route, or a route that says no
    UNRESOLVED  the next hop does not answer ARP or ND
    LEFT        it left by an uplink; what lies beyond is not in the snapshot
    LOOP        it came back to where it had been
    UNKNOWN     what decides it could not be read or is not understood
    """

    DELIVERED = "delivered"
    DROPPED = "dropped"
    REJECTED = "rejected"
    NO_ROUTE = "no-route"
    UNRESOLVED = "unresolved"
    LEFT = "left"
    LOOP = "loop"
    UNKNOWN = "unknown"


class Stage(StrEnum):
    """Where in a stack something happens to the packet, in the order of the kernel's path."""

    OUTPUT = "output"
    INGRESS = "ingress"
    BRIDGE = "bridge"
    PREROUTING = "prerouting"
    ROUTE = "route"
    INPUT = "input"
    FORWARD = "forward"
    POSTROUTING = "postrouting"
    NEIGHBOUR = "neighbour"
    EGRESS = "egress"
    DELIVER = "deliver"


class Reason(StrEnum):
    """Why a way ended where it did; checks switch on it."""

    ARRIVED = "arrived"
    LEFT = "left"
    NETFILTER = "netfilter"
    FORWARDING_OFF = "forwarding-off"
    RP_FILTER = "rp-filter"
    MARTIAN = "martian"
    NO_ROUTE = "no-route"
    NO_ADDRESS = "no-address"
    UNRESOLVED = "unresolved"
    LINK_DOWN = "link-down"
    NO_CARRIER = "no-carrier"
    PAUSED = "paused"
    PORT_STATE = "port-state"
    ISOLATED = "isolated"
    VLAN = "vlan"
    NO_FLOOD = "no-flood"
    NO_PORT = "no-port"
    NOT_FOR_US = "not-for-us"
    NO_LISTENER = "no-listener"
    MTU = "mtu"
    TTL = "ttl"
    NO_RETURN_ROUTE = "no-return-route"
    LOOP = "loop"
    NOT_READ = "not-read"
    NOT_MODELLED = "not-modelled"


NO_ANSWER = "no answer"
"""The decision of the hop that stands for a reply of which nothing was seen."""


class RuleRef(msgspec.Struct, frozen=True, kw_only=True, tag="rule"):
    """A rule of a chain, or its policy when ``index`` (from 0) and ``handle`` are ``None``.

    With a ``handle`` alone it is a rule that is not in the snapshot.
    ``bridged`` is true when the chain saw the packet as a bridged frame (br_netfilter).
    """

    stack: str
    family: Family
    backend: str
    table: str
    chain: str
    index: int | None
    text: str
    handle: int | None = None
    bridged: bool = False

    def __str__(self) -> str:
        place = f"{self.backend} table {self.family} {self.table} chain {self.chain}"
        if self.index is None:
            return f"{place} policy" if self.handle is None else f"{place} handle {self.handle}"
        handle = f" handle {self.handle}" if self.handle is not None else ""
        return f"{place} rule {self.index + 1}{handle}"


class RouteRef(msgspec.Struct, frozen=True, kw_only=True, tag="route"):
    """A route, as ``ip route`` prints it."""

    stack: str
    table: int
    text: str

    def __str__(self) -> str:
        return f"ip route table {self.table}"


class SysctlRef(msgspec.Struct, frozen=True, kw_only=True, tag="sysctl"):
    """Sysctls whose values decided together (``all`` and the interface's own, say)."""

    stack: str
    values: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return ", ".join(f"{name} = {value}" for name, value in self.values)


class LinkStateRef(msgspec.Struct, frozen=True, kw_only=True, tag="link"):
    """The state of a link, a port or the FDB."""

    stack: str
    link: str
    text: str

    def __str__(self) -> str:
        return f"ip -d link show {self.link}"


Decider = RuleRef | RouteRef | SysctlRef | LinkStateRef


class Hop(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the way.

    ``packet`` is the packet after the step. ``link`` is the device the step belongs to; in
    ROUTE and later stages of forwarding it is the outgoing one, in PREROUTING and INPUT the
    incoming one. ``in_link`` and ``out_link`` are the devices netfilter sees.
    ``predicted`` is what the walk expects, ``seen`` what the probe saw (``None``: nobody
    looked, or it cannot be looked at); ``time_us`` counts from the probe's sending.
    ``kernel_reason`` is what the kernel itself gave as the reason for dropping it here.
    ``matched`` are all rules of a hook that matched the packet, in the order of its way.
    ``tunnels`` counts those that the asked packet is in here: above 0 ``packet`` carries it.
    """

    direction: Direction
    stack: str
    link: str | None
    stage: Stage
    packet: Packet
    decision: str
    because: str = ""
    decider: Decider | None = None
    in_link: str | None = None
    out_link: str | None = None
    predicted: bool = True
    seen: bool | None = None
    time_us: float | None = None
    kernel_reason: str | None = None
    matched: tuple[RuleRef, ...] = ()
    tunnels: int = 0

    @property
    def place(self) -> LinkRef:
        """The stack and link of this hop."""
        return LinkRef(self.stack, self.link or "-")


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """The way of one packet in one direction; its last hop is where it ended.

    ``assumptions`` are sentences: what was taken for granted on the way.
    """

    direction: Direction
    outcome: Outcome
    reason: Reason
    hops: tuple[Hop, ...]
    assumptions: tuple[str, ...] = ()

    @property
    def end(self) -> Hop:
        """The last hop: where the packet's fate was decided."""
        return self.hops[-1]

    @property
    def arrived(self) -> bool | None:
        """True when nothing the snapshot knows stops the packet; ``None`` when unknown."""
        if self.outcome is Outcome.UNKNOWN:
            return None
        return self.outcome in (Outcome.DELIVERED, Outcome.LEFT)


class Walk(msgspec.Struct, frozen=True, kw_only=True):
    """Request and reply of one question. ``reply`` is ``None`` when there was nobody to reply.

    ``alternatives`` are the other ways that rules or routes of chance leave open, all of which
    end as this one does.
    """

    question: Question
    request: Trace
    reply: Trace | None = None
    alternatives: tuple[Walk, ...] = ()

    @property
    def works(self) -> bool | None:
        """True when request and reply both get through; ``None`` when that is unknown."""
        if not self.request.arrived:
            return self.request.arrived
        return None if self.reply is None else self.reply.arrived

    @property
    def decisive(self) -> Trace:
        """The direction in which the fate was decided: the reply only when it is lost."""
        if self.request.arrived and self.reply is not None and not self.reply.arrived:
            return self.reply
        return self.request

    @property
    def traces(self) -> tuple[Trace, ...]:
        """The directions that were walked, request first."""
        return (self.request,) if self.reply is None else (self.request, self.reply)

    @property
    def hops(self) -> tuple[Hop, ...]:
        """All hops in the order of time."""
        return tuple(hop for trace in self.traces for hop in trace.hops)
