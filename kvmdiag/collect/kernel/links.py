"""Links from RTM_NEWLINK messages, and what ties veth ends together.

Source: rtnetlink(7), include/uapi/linux/if_link.h, net/core/rtnetlink.c (rtnl_fill_ifinfo).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from kvmdiag.collect.kernel import link_kinds
from kvmdiag.collect.kernel.attributes import (
    Layout,
    decode,
    each,
    flag,
    mac,
    nest,
    number,
    raw,
    text,
)
from kvmdiag.model.link import Link
from kvmdiag.model.link_kinds import LinkCounters, Process, Qdisc, TcFilter, Wireless

_HEADER = struct.Struct("=BxHiII")
PAIRED = ("veth", "netkit")
"""Kinds of links that come in pairs: the lower link of one is the other."""

_IFF_UP, _IFF_NOARP, _IFF_PROMISC, _IFF_ALLMULTI = 0x1, 0x80, 0x100, 0x200
_INFO: Layout = {1: ("kind", text), 2: ("data", raw), 4: ("slave_kind", text), 5: ("slave", raw)}
_ALTERNATIVE_NAME = 53
_LAYOUT: Layout = {
    1: ("mac", mac),
    3: ("name", text),
    4: ("mtu", number),
    5: ("lower", number),
    10: ("master", number),
    13: ("tx_queue_length", number),
    16: ("operstate", number),
    18: ("info", nest(_INFO)),
    20: ("alias", text),
    22: ("virtual_functions", raw),
    26: ("families", raw),
    27: ("group", number),
    30: ("promiscuous", number),
    31: ("tx_queues", number),
    32: ("rx_queues", number),
    33: ("carrier", flag),
    35: ("carrier_changes", number),
    37: ("nsid", number),
    39: ("protocol_down", flag),
    43: ("xdp", raw),
    52: ("properties", raw),
    54: ("permanent_mac", mac),
    61: ("all_multicast", number),
}
_TYPES = {
    1: "ether",
    32: "infiniband",
    512: "ppp",
    768: "ipip",
    769: "tunnel6",
    772: "loopback",
    776: "sit",
    778: "gre",
    803: "monitor",
    823: "gre6",
    65534: "none",
}
_OPERSTATES = ("unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up")
_KINDS: Mapping[str, tuple[str, Callable[[bytes], object]]] = {
    "bridge": ("bridge", link_kinds.bridge),
    "tun": ("tap", link_kinds.tap),
    "vlan": ("vlan", link_kinds.vlan),
    "macvlan": ("macvlan", link_kinds.macvlan),
    "macvtap": ("macvlan", link_kinds.macvlan),
    "ipvlan": ("ipvlan", link_kinds.ipvlan),
    "ipvtap": ("ipvlan", link_kinds.ipvlan),
    "vrf": ("vrf", link_kinds.vrf),
}
_PORT_KINDS: Mapping[str, tuple[str, Callable[[bytes], object]]] = {
    "bridge": ("port", link_kinds.bridge_port),
    "bond": ("bond_port", link_kinds.bond_port),
}
_STATS_HEADER = struct.Struct("=BxxxiI")
_STATS: Layout = {1: ("counters", raw)}
# struct rtnl_link_stats64; older kernels' is shorter.
_COUNTERS = struct.Struct("=16Q")
_NOHANDLER = struct.Struct("=Q")
_NOHANDLER_AT = 23 * 8


@dataclass(frozen=True)
class RawLink:
    """A link as the kernel describes it: its fields by name, some still undecoded."""

    index: int
    flags: int
    type: int
    fields: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its name."""
        name: str = self.fields["name"]
        return name

    @property
    def kind(self) -> str | None:
        """The kernel's word for what it is; ``None`` for a NIC."""
        kind: str | None = self.fields.get("info", {}).get("kind")
        return kind


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


def raw_links(messages: Sequence[bytes]) -> tuple[RawLink, ...]:
    """All links by rising index, whatever order the kernel has them in."""
    found = []
    for message in messages:
        _, link_type, index, flags, _ = _HEADER.unpack_from(message)
        fields = decode(message, _LAYOUT, _HEADER.size)
        if "name" in fields:
            found.append(RawLink(index, flags, link_type, fields))
    return tuple(sorted(found, key=lambda link: link.index))


def names_of(links_: Sequence[RawLink]) -> dict[int, str]:
    """Link names by index."""
    return {link.index: link.name for link in links_}


def counters(messages: Sequence[bytes]) -> dict[int, LinkCounters]:
    """What was counted on each link, by index (RTM_NEWSTATS)."""
    found = {}
    for message in messages:
        _, index, _ = _STATS_HEADER.unpack_from(message)
        data = decode(message, _STATS, _STATS_HEADER.size).get("counters", b"")
        if len(data) < _COUNTERS.size:
            continue
        # fmt: off
        (rx, tx, rx_bytes, tx_bytes, rx_errors, tx_errors, rx_dropped, tx_dropped, multicast,
         collisions, _, rx_over, _, _, _, rx_missed) = _COUNTERS.unpack_from(data)
        # fmt: on
        told = len(data) >= _NOHANDLER_AT + _NOHANDLER.size
        found[index] = LinkCounters(
            rx_packets=rx,
            tx_packets=tx,
            rx_bytes=rx_bytes,
            tx_bytes=tx_bytes,
            rx_errors=rx_errors,
            tx_errors=tx_errors,
            rx_dropped=rx_dropped,
            tx_dropped=tx_dropped,
            multicast=multicast,
            collisions=collisions,
            rx_over_errors=rx_over,
            rx_missed=rx_missed,
            rx_nohandler=_NOHANDLER.unpack_from(data, _NOHANDLER_AT)[0] if told else 0,
        )
    return found


def attachments(links_: Sequence[RawLink]) -> tuple[Attachment, ...]:
    """The veth ends, and whatever else has its lower link in another namespace."""
    found = []
    for link in links_:
        nsid, far = link.fields.get("nsid"), link.fields.get("lower", 0)
        if far and (link.kind in PAIRED or nsid is not None):
            found.append(Attachment(link.name, link.kind, nsid, far))
    return tuple(found)


def links(links_: Sequence[RawLink]) -> tuple[Link, ...]:
    """All links; what other dumps know of them is for ``with_extras`` to add.

    ``peer`` is left for whoever knows all namespaces.
    """
    names = names_of(links_)
    return tuple(_link(link, names) for link in links_)


@dataclass(frozen=True)
class Extras:
    """What other sources say of links, by index; ``None`` when a source could not be read."""

    counters: Mapping[int, LinkCounters] | None = None
    qdiscs: Mapping[int, tuple[Qdisc, ...]] | None = None
    filters: Mapping[int, tuple[TcFilter, ...]] | None = None
    offloads: Mapping[int, tuple[str, ...]] | None = None
    wireless: Mapping[int, Wireless] | None = None
    assigned: Mapping[int, str] | None = None


def with_extras(links_: Sequence[Link], extras: Extras) -> tuple[Link, ...]:
    """The links with what other sources say of them."""
    return tuple(
        msgspec.structs.replace(
            link,
            counters=None if extras.counters is None else extras.counters.get(link.index),
            qdiscs=None if extras.qdiscs is None else extras.qdiscs.get(link.index, ()),
            filters=None if extras.filters is None else extras.filters.get(link.index, ()),
            offloads=None if extras.offloads is None else extras.offloads.get(link.index),
            wireless=None if extras.wireless is None else extras.wireless.get(link.index),
            address_assigned=None if extras.assigned is None else extras.assigned.get(link.index),
        )
        for link in links_
    )


def with_readers(
    links_: Sequence[Link], readers: Callable[[str], tuple[Process, ...] | None]
) -> tuple[Link, ...]:
    """The links with the processes that read and write taps, by a tap's name."""

    def read(link: Link) -> Link:
        if link.tap is not None:
            tap = msgspec.structs.replace(link.tap, readers=readers(link.name))
            return msgspec.structs.replace(link, tap=tap)
        if link.kind == "macvtap" and link.macvlan is not None:
            macvlan = msgspec.structs.replace(link.macvlan, readers=readers(link.name))
            return msgspec.structs.replace(link, macvlan=macvlan)
        if link.kind == "ipvtap" and link.ipvlan is not None:
            ipvlan = msgspec.structs.replace(link.ipvlan, readers=readers(link.name))
            return msgspec.structs.replace(link, ipvlan=ipvlan)
        return link

    return tuple(map(read, links_))


def _link(link: RawLink, names: Mapping[int, str]) -> Link:
    fields = link.fields
    link_type = _TYPES.get(link.type, str(link.type))
    has_mac = link_type in ("ether", "loopback")
    operstate = fields.get("operstate", 0)
    # Only within the namespace is IFLA_LINK an index of ours; a veth's is its peer.
    near = "nsid" not in fields and link.kind not in PAIRED
    of_kind: dict[str, Any] = {"lower": names.get(fields.get("lower", 0)) if near else None}
    of_kind.update(_of_kind(fields.get("info", {}), names))
    return Link(
        index=link.index,
        name=link.name,
        kind=link.kind,
        type=link_type,
        mac=fields.get("mac") if has_mac else None,
        mtu=fields["mtu"],
        up=bool(link.flags & _IFF_UP),
        carrier=fields.get("carrier", True),
        operstate=_OPERSTATES[operstate] if operstate < len(_OPERSTATES) else str(operstate),
        master=names.get(fields.get("master", 0)),
        virtual_functions=link_kinds.virtual_functions(fields.get("virtual_functions", b"")),
        xdp=link_kinds.xdp(fields.get("xdp", b"")),
        alias=fields.get("alias"),
        alternative_names=_alternative_names(fields.get("properties", b"")),
        permanent_mac=fields.get("permanent_mac") if has_mac else None,
        tx_queue_length=fields.get("tx_queue_length", 0),
        tx_queues=fields.get("tx_queues", 1),
        rx_queues=fields.get("rx_queues", 1),
        promiscuous=bool(fields.get("promiscuous", 0) or link.flags & _IFF_PROMISC),
        all_multicast=bool(fields.get("all_multicast", 0) or link.flags & _IFF_ALLMULTI),
        arp=not link.flags & _IFF_NOARP,
        protocol_down=fields.get("protocol_down", False),
        group=fields.get("group", 0),
        carrier_changes=fields.get("carrier_changes", 0),
        **of_kind,
    )


def _of_kind(info: Mapping[str, Any], names: Mapping[int, str]) -> dict[str, Any]:
    """The fields that only links of that kind have, or only ports of that kind of master."""
    found: dict[str, Any] = {}
    kind, data, port = info.get("kind", ""), info.get("data", b""), info.get("slave_kind", "")
    if kind in _KINDS:
        field, read = _KINDS[kind]
        found[field] = read(data)
    elif kind == "bond":
        found["bond"] = link_kinds.bond(data, names)
    elif kind == "vxlan":
        found["vxlan"], lower = link_kinds.vxlan(data, names)
        if lower is not None:
            found["lower"] = lower
    if port in _PORT_KINDS:
        field, read = _PORT_KINDS[port]
        found[field] = read(info.get("slave", b""))
    return found


def _alternative_names(data: bytes) -> tuple[str, ...]:
    return tuple(text(value) for kind, value in each(data) if kind == _ALTERNATIVE_NAME)
