"""Links from RTM_NEWLINK messages, and what ties veth ends together.

Source: rtnetlink(7), include/uapi/linux/if_link.h, net/core/rtnetlink.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kvmdiag.collect.netlink import Message, attributes
from kvmdiag.model.link import Bridge, BridgePort, Link, Tap, Vlan

_IFF_UP = 0x1
_TYPES = {
    1: "ether",
    32: "infiniband",
    512: "ppp",
    768: "ipip",
    769: "tunnel6",
    772: "loopback",
    776: "sit",
    778: "gre",
    823: "gre6",
    65534: "none",
}
_PORT_STATES = ("disabled", "listening", "learning", "forwarding", "blocking")
_TUN_TAP = 2


@dataclass(frozen=True)
class Attachment:
    """A link that hangs on a link elsewhere.

    ``nsid`` is how this namespace calls the other one, ``None`` for this very one;
    ``far_index`` is the index of the link there.
    """

    name: str
    kind: str | None
    nsid: int | None
    far_index: int


def links(messages: Sequence[Message]) -> tuple[Link, ...]:
    """All links in the kernel's order; ``peer`` is left for whoever knows all namespaces."""
    names = names_of(messages)
    return tuple(_link(message, names) for message in messages)


def names_of(messages: Sequence[Message]) -> dict[int, str]:
    """Link names by index."""
    return {message["index"]: attributes(message)["IFLA_IFNAME"] for message in messages}


def attachments(messages: Sequence[Message]) -> tuple[Attachment, ...]:
    """The veth ends, and whatever else has its lower link in another namespace."""
    found = []
    for message in messages:
        attrs = attributes(message)
        kind = attributes(attrs.get("IFLA_LINKINFO")).get("IFLA_INFO_KIND")
        nsid = attrs.get("IFLA_LINK_NETNSID")
        far = attrs.get("IFLA_LINK", 0)
        if far and (kind == "veth" or nsid is not None):
            found.append(Attachment(attrs["IFLA_IFNAME"], kind, nsid, far))
    return tuple(found)


def _link(message: Message, names: dict[int, str]) -> Link:
    attrs = attributes(message)
    info = attributes(attrs.get("IFLA_LINKINFO"))
    kind = info.get("IFLA_INFO_KIND")
    data = info.get("IFLA_INFO_DATA")
    link_type = _TYPES.get(message["ifi_type"], str(message["ifi_type"]))
    # Only within the namespace is IFLA_LINK an index of ours; a veth's is its peer.
    near = "IFLA_LINK_NETNSID" not in attrs and kind != "veth"
    return Link(
        index=message["index"],
        name=attrs["IFLA_IFNAME"],
        kind=kind,
        type=link_type,
        mac=attrs.get("IFLA_ADDRESS") if link_type in ("ether", "loopback") else None,
        mtu=attrs["IFLA_MTU"],
        up=bool(message["flags"] & _IFF_UP),
        carrier=bool(attrs.get("IFLA_CARRIER", 1)),
        operstate=attrs.get("IFLA_OPERSTATE", "unknown").lower(),
        master=names.get(attrs.get("IFLA_MASTER", 0)),
        lower=names.get(attrs.get("IFLA_LINK", 0)) if near else None,
        bridge=_bridge(data) if kind == "bridge" else None,
        port=_port(info),
        tap=_tap(data) if kind == "tun" else None,
        vlan=_vlan(data) if kind == "vlan" else None,
    )


def _bridge(data: Any) -> Bridge:
    attrs = attributes(data)
    return Bridge(
        stp=bool(attrs.get("IFLA_BR_STP_STATE", 0)),
        forward_delay=attrs.get("IFLA_BR_FORWARD_DELAY", 1500),
        vlan_filtering=bool(attrs.get("IFLA_BR_VLAN_FILTERING", 0)),
        nf_call_iptables=bool(attrs.get("IFLA_BR_NF_CALL_IPTABLES", 0)),
        nf_call_ip6tables=bool(attrs.get("IFLA_BR_NF_CALL_IP6TABLES", 0)),
        nf_call_arptables=bool(attrs.get("IFLA_BR_NF_CALL_ARPTABLES", 0)),
        multicast_snooping=bool(attrs.get("IFLA_BR_MCAST_SNOOPING", 0)),
        group_fwd_mask=attrs.get("IFLA_BR_GROUP_FWD_MASK", 0),
    )


def _port(info: dict[str, Any]) -> BridgePort | None:
    if info.get("IFLA_INFO_SLAVE_KIND") != "bridge":
        return None
    attrs = attributes(info.get("IFLA_INFO_SLAVE_DATA"))
    return BridgePort(
        state=_PORT_STATES[attrs["IFLA_BRPORT_STATE"]],
        isolated=bool(attrs.get("IFLA_BRPORT_ISOLATED", 0)),
        hairpin=bool(attrs.get("IFLA_BRPORT_MODE", 0)),
        learning=bool(attrs.get("IFLA_BRPORT_LEARNING", 1)),
        flood=bool(attrs.get("IFLA_BRPORT_UNICAST_FLOOD", 1)),
    )


def _tap(data: Any) -> Tap:
    attrs = attributes(data)
    return Tap(
        mode="tap" if attrs.get("IFLA_TUN_TYPE", _TUN_TAP) == _TUN_TAP else "tun",
        persistent=bool(attrs.get("IFLA_TUN_PERSIST", 0)),
    )


def _vlan(data: Any) -> Vlan:
    return Vlan(vid=attributes(data)["IFLA_VLAN_ID"])
