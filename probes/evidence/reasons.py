"""What the kernel's drop reasons mean in the words of the model.

Always reason and function together: NOT_SPECIFIED says nothing by itself.
Source: include/net/dropreason-core.h, and the functions named here.
"""

from __future__ import annotations

from typing import NamedTuple

from kvmdiag.model.trace import Outcome, Reason
from kvmdiag.probes.evidence.facts import KernelDrop


class Meaning(NamedTuple):
    """How a walk that ends like this is told.

    ``like`` are reasons of the model that say the same.
    """

    outcome: Outcome
    reason: Reason
    words: str
    like: frozenset[Reason] = frozenset()

    def agrees(self, reason: Reason) -> bool:
        """Whether the model, by its reason, expected just this."""
        return reason is self.reason or reason in self.like


_D, _N, _R = Outcome.DROPPED, Outcome.NO_ROUTE, Outcome.REJECTED
_FORWARDING = frozenset({Reason.NO_ROUTE, Reason.NO_RETURN_ROUTE})
_LINK = frozenset({Reason.NO_CARRIER, Reason.PORT_STATE})

_BY_REASON: dict[str, Meaning] = {
    "NETFILTER_DROP": Meaning(_D, Reason.NETFILTER, "netfilter drops it"),
    "IP_RPFILTER": Meaning(
        _D, Reason.RP_FILTER, "the way back to its source does not lead by this link (rp_filter)"
    ),
    "IP_INNOROUTES": Meaning(
        _N, Reason.NO_ROUTE, "there is no route", frozenset({Reason.NO_RETURN_ROUTE})
    ),
    "IP_OUTNOROUTES": Meaning(
        _N, Reason.NO_ROUTE, "there is no route", frozenset({Reason.NO_RETURN_ROUTE})
    ),
    "IP_INADDRERRORS": Meaning(
        _D, Reason.FORWARDING_OFF, "this link does not forward, or a route refuses", _FORWARDING
    ),
    "IP_LOCALNET": Meaning(_D, Reason.MARTIAN, "its address is of the loopback network"),
    "IP_LOCAL_SOURCE": Meaning(_D, Reason.MARTIAN, "its source is an address of this machine"),
    "IP_INVALID_SOURCE": Meaning(_D, Reason.MARTIAN, "its source is no address of a machine"),
    "IP_INVALID_DEST": Meaning(_D, Reason.MARTIAN, "its destination is no address of a machine"),
    "OTHERHOST": Meaning(_D, Reason.NOT_FOR_US, "the frame is addressed to another machine"),
    "NEIGH_FAILED": Meaning(
        Outcome.UNRESOLVED, Reason.UNRESOLVED, "the next hop does not answer ARP or ND"
    ),
    "NEIGH_QUEUEFULL": Meaning(
        Outcome.UNRESOLVED, Reason.UNRESOLVED, "the next hop does not answer ARP or ND"
    ),
    "PKT_TOO_BIG": Meaning(_R, Reason.MTU, "it is longer than the next link takes (MTU)"),
    "NO_SOCKET": Meaning(_R, Reason.NO_LISTENER, "nobody listens on its port"),
    "NO_TX_TARGET": Meaning(
        _D, Reason.NO_PORT, "no port of the bridge is to have it", _LINK | {Reason.LINK_DOWN}
    ),
    "DEV_READY": Meaning(_D, Reason.LINK_DOWN, "the link is not up", _LINK),
    "FULL_RING": Meaning(_D, Reason.NOT_MODELLED, "the guest does not take its packets"),
    "QDISC_DROP": Meaning(_D, Reason.NOT_MODELLED, "the link's queueing discipline drops it"),
    "TC_INGRESS": Meaning(_D, Reason.NOT_MODELLED, "a tc filter on ingress drops it"),
    "TC_EGRESS": Meaning(_D, Reason.NOT_MODELLED, "a tc filter on egress drops it"),
    "XDP": Meaning(_D, Reason.NOT_MODELLED, "an XDP program drops it"),
    "TAP_FILTER": Meaning(_D, Reason.NOT_MODELLED, "the tap's filter drops it"),
    "TAP_TXFILTER": Meaning(_D, Reason.NOT_MODELLED, "the tap's filter drops it"),
    "SOCKET_FILTER": Meaning(_D, Reason.NOT_MODELLED, "the filter of its socket drops it"),
    "SOCKET_RCVBUFF": Meaning(_D, Reason.NOT_MODELLED, "the buffer of its socket is full"),
    "UNHANDLED_PROTO": Meaning(_D, Reason.NOT_MODELLED, "nothing here handles its protocol"),
    "XFRM_POLICY": Meaning(_D, Reason.NOT_MODELLED, "an IPsec policy forbids it"),
    "BRIDGE_INGRESS_STP_STATE": Meaning(_D, Reason.PORT_STATE, "the port does not forward"),
    "BRIDGE_NON_FORWARDING_STATE": Meaning(_D, Reason.PORT_STATE, "the port does not forward"),
}
_BY_SYMBOL: dict[tuple[str, str], Meaning] = {
    ("IP_INHDR", "ip_forward"): Meaning(_R, Reason.TTL, "its time to live is over"),
    ("IP_INHDR", "ip6_forward"): Meaning(_R, Reason.TTL, "its hop limit is used up"),
    ("NOT_SPECIFIED", "ip6_forward"): Meaning(
        _D, Reason.FORWARDING_OFF, "it is not forwarded", frozenset({Reason.TTL, Reason.MTU})
    ),
    ("NOT_SPECIFIED", "ip_error"): Meaning(
        _D, Reason.NO_ROUTE, "the route says blackhole", frozenset({Reason.NO_RETURN_ROUTE})
    ),
    ("NOT_SPECIFIED", "br_nf_dev_queue_xmit"): Meaning(
        _D, Reason.MTU, "it is longer than the bridge's port takes (MTU)"
    ),
    ("NOT_SPECIFIED", "br_dev_queue_push_xmit"): Meaning(
        _D, Reason.MTU, "it is longer than the bridge's port takes (MTU)"
    ),
    ("NOT_SPECIFIED", "br_handle_frame_finish"): Meaning(
        _D,
        Reason.ISOLATED,
        "the bridge may not bring it from this port to the other",
        _LINK | {Reason.NO_PORT, Reason.LINK_DOWN, Reason.MTU},
    ),
}


def meaning(drop: KernelDrop) -> Meaning | None:
    """What it means, where that is known."""
    by_symbol = _BY_SYMBOL.get((drop.reason or "", drop.symbol))
    return by_symbol or _BY_REASON.get(drop.reason or "")
