"""What bridges and VXLAN links know: FDB, multicast groups, VLANs.

The kernel lists them in the order of hashed tables; here they are sorted, so that the same
state is the same facts. Source: include/uapi/linux/if_bridge.h, net/bridge/br_fdb.c, br_mdb.c,
br_netlink.c, drivers/net/vxlan/vxlan_core.c.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence

from kvmdiag.collect.kernel.addresses import NEIGHBOUR_HEADER
from kvmdiag.collect.kernel.attributes import (
    Layout,
    address,
    big_endian,
    decode,
    each,
    mac,
    number,
    raw,
    text,
)
from kvmdiag.model.stack import BridgeVlan, FdbEntry, MdbEntry, TunnelEntry

_FDB: Layout = {
    1: ("remote", address),
    2: ("mac", mac),
    5: ("vlan", number),
    6: ("port", big_endian),
    7: ("vni", number),
    8: ("via", number),
    9: ("bridge", number),
}
_NUD_NOARP, _NUD_PERMANENT = 0x40, 0x80
_NTF_SELF, _NTF_EXT_LEARNED, _NTF_STICKY = 0x02, 0x10, 0x40

_LINK_HEADER = struct.Struct("=BxHiII")
_VLANS: Layout = {3: ("name", text), 26: ("specific", raw)}
_VLAN_INFO = 2
_VLAN = struct.Struct("=HH")
_PVID, _UNTAGGED, _RANGE_BEGIN, _RANGE_END = 0x02, 0x04, 0x08, 0x10

_PORT_HEADER = struct.Struct("=Bxxxi")
_MDB, _MDB_ENTRY, _ENTRY_INFO = 1, 1, 1
_ENTRY = struct.Struct("=IBBH16sH")
_MDB_PERMANENT, _MDB_BLOCKED = 1, 8
_ETH_IPV4, _ETH_IPV6 = 0x0800, 0x86DD


def fdb(messages: Sequence[bytes], names: Mapping[int, str]) -> tuple[FdbEntry, ...]:
    """What bridges know; a device's own filter list (``self``) is not theirs."""
    found = []
    for message in messages:
        _, index, state, flags, _ = NEIGHBOUR_HEADER.unpack_from(message)
        if flags & _NTF_SELF:
            continue
        fields = decode(message, _FDB, NEIGHBOUR_HEADER.size)
        bridge, port = names.get(fields.get("bridge", 0)), names.get(index)
        if bridge is None or port is None or "mac" not in fields:
            continue
        found.append(
            FdbEntry(
                bridge=bridge,
                port=port,
                mac=fields["mac"],
                local=bool(state & _NUD_PERMANENT),
                static=bool(state & _NUD_NOARP),
                vlan=fields.get("vlan"),
                learned_elsewhere=bool(flags & _NTF_EXT_LEARNED),
                sticky=bool(flags & _NTF_STICKY),
            )
        )
    order = {name: position for position, name in enumerate(names.values())}
    return tuple(
        sorted(found, key=lambda e: (order[e.bridge], e.vlan or 0, e.mac, order[e.port], e.local))
    )


def tunnels(messages: Sequence[bytes], names: Mapping[int, str]) -> tuple[TunnelEntry, ...]:
    """Behind which peer VXLAN links know a MAC address to be."""
    found = []
    for message in messages:
        _, index, _, flags, _ = NEIGHBOUR_HEADER.unpack_from(message)
        fields = decode(message, _FDB, NEIGHBOUR_HEADER.size)
        link, remote = names.get(index), fields.get("remote")
        if link is None or remote is None or "mac" not in fields or not flags & _NTF_SELF:
            continue
        found.append(
            TunnelEntry(
                link=link,
                mac=fields["mac"],
                remote=remote,
                port=fields.get("port"),
                vni=fields.get("vni"),
                via=names.get(fields.get("via", 0)),
            )
        )
    return tuple(sorted(found, key=lambda e: (e.link, e.mac, e.remote, e.port or 0, e.vni or 0)))


def vlans(messages: Sequence[bytes]) -> tuple[BridgeVlan, ...]:
    """The VLANs of bridges and of their ports, from RTM_NEWLINK of the bridge family."""
    found = []
    for message in messages:
        _, _, index, _, _ = _LINK_HEADER.unpack_from(message)
        fields = decode(message, _VLANS, _LINK_HEADER.size)
        carried = _vlans(fields.get("name", ""), fields.get("specific", b""))
        found += [(index, vlan) for vlan in carried]
    found.sort(key=lambda pair: (pair[0], pair[1].vid))
    return tuple(vlan for _, vlan in found)


def _vlans(link: str, data: bytes) -> Iterator[BridgeVlan]:
    """Ranges of equal VLANs are told by their first and their last."""
    first = None
    for kind, value in each(data):
        if kind != _VLAN_INFO or len(value) < _VLAN.size:
            continue
        flags, vid = _VLAN.unpack_from(value)
        if flags & _RANGE_BEGIN:
            first = vid
            continue
        start = first if flags & _RANGE_END and first is not None else vid
        first = None
        for number_ in range(start, vid + 1):
            yield BridgeVlan(
                link=link,
                vid=number_,
                pvid=bool(flags & _PVID),
                untagged=bool(flags & _UNTAGGED),
            )


def mdb(messages: Sequence[bytes], names: Mapping[int, str]) -> tuple[MdbEntry, ...]:
    """The multicast groups bridges forward, and where to."""
    found: set[MdbEntry] = set()
    for message in messages:
        _, index = _PORT_HEADER.unpack_from(message)
        bridge = names.get(index)
        if bridge is not None:
            found.update(_groups(bridge, message, names))
    return tuple(sorted(found, key=lambda e: (e.bridge, e.vid, e.group, e.port)))


def _groups(bridge: str, message: bytes, names: Mapping[int, str]) -> Iterator[MdbEntry]:
    infos = (
        info
        for table, entries in each(message, _PORT_HEADER.size)
        if table == _MDB
        for kind, entry in each(entries)
        if kind == _MDB_ENTRY
        for which, info in each(entry)
        if which == _ENTRY_INFO and len(info) >= _ENTRY.size
    )
    for info in infos:
        index, state, flags, vid, group, protocol = _ENTRY.unpack_from(info)
        port = names.get(index)
        if port is None:
            continue
        yield MdbEntry(
            bridge=bridge,
            port=port,
            group=_group(group, int.from_bytes(struct.pack("=H", protocol), "big")),
            vid=vid,
            permanent=state == _MDB_PERMANENT,
            blocked=bool(flags & _MDB_BLOCKED),
        )


def _group(data: bytes, protocol: int) -> str:
    length = {_ETH_IPV4: 4, _ETH_IPV6: 16}.get(protocol)
    if length is None:
        return mac(data[:6])
    return str(address(data[:length]))
