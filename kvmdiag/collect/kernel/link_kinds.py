"""What a link of a particular kind says of itself: IFLA_INFO_DATA, by kind.

Each function takes the bytes of one attribute and gives a piece of the model; indexes of other
links become names by ``names``. Source: include/uapi/linux/if_link.h, if_bonding.h, if_tun.h.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from kvmdiag.collect.kernel.attributes import (
    Layout,
    address,
    big_endian,
    decode,
    each,
    flag,
    mac,
    number,
    raw,
)
from kvmdiag.model.link import Bridge, BridgePort, Tap, Vlan
from kvmdiag.model.link_kinds import (
    Bond,
    BondPort,
    Ipvlan,
    Macvlan,
    VirtualFunction,
    Vrf,
    Vxlan,
    Xdp,
)

Names = Mapping[int, str]

_PROTOCOLS = {0x8100: "802.1Q", 0x88A8: "802.1ad"}

_BRIDGE: Layout = {
    1: ("forward_delay", number),
    4: ("ageing_time", number),
    5: ("stp", flag),
    6: ("priority", number),
    7: ("vlan_filtering", flag),
    8: ("vlan_protocol", big_endian),
    9: ("group_fwd_mask", number),
    12: ("root_port", number),
    23: ("multicast_snooping", flag),
    25: ("multicast_querier", flag),
    36: ("nf_call_iptables", flag),
    37: ("nf_call_ip6tables", flag),
    38: ("nf_call_arptables", flag),
    39: ("default_pvid", number),
}
# A kernel that leaves these out was built without them: they are off.
_BRIDGE_WITHOUT = {
    "vlan_filtering": False,
    "default_pvid": 0,
    "multicast_snooping": False,
    "nf_call_iptables": False,
    "nf_call_ip6tables": False,
    "nf_call_arptables": False,
}
_PORT: Layout = {
    1: ("state", number),
    2: ("priority", number),
    3: ("cost", number),
    4: ("hairpin", flag),
    5: ("guard", flag),
    6: ("root_block", flag),
    7: ("fast_leave", flag),
    8: ("learning", flag),
    9: ("flood", flag),
    10: ("proxy_arp", flag),
    27: ("multicast_flood", flag),
    28: ("multicast_to_unicast", flag),
    29: ("vlan_tunnel", flag),
    30: ("broadcast_flood", flag),
    31: ("group_fwd_mask", number),
    32: ("neigh_suppress", flag),
    33: ("isolated", flag),
    39: ("locked", flag),
}
_PORT_STATES = ("disabled", "listening", "learning", "forwarding", "blocking")
_TUN: Layout = {
    1: ("owner", number),
    2: ("group", number),
    3: ("type", number),
    5: ("vnet_header", flag),
    6: ("persistent", flag),
    7: ("multi_queue", flag),
    8: ("queues", number),
    9: ("disabled_queues", number),
}
_TUN_TAP = 2
_VLAN: Layout = {1: ("vid", number), 5: ("protocol", big_endian)}
_MACVLAN: Layout = {1: ("mode", number)}
_MACVLAN_MODES = {1: "private", 2: "vepa", 4: "bridge", 8: "passthru", 16: "source"}
_IPVLAN_MODES = {0: "l2", 1: "l3", 2: "l3s"}
_VXLAN: Layout = {
    1: ("vni", number),
    2: ("remote", address),
    3: ("lower", number),
    4: ("local", address),
    7: ("learning", flag),
    15: ("port", big_endian),
    16: ("remote", address),
    17: ("local", address),
    25: ("external", flag),
}
_NOBODY = ("0.0.0.0", "::", None)  # noqa: S104 - an address that is not set
_BOND: Layout = {
    1: ("mode", number),
    2: ("active", number),
    3: ("miimon", number),
    7: ("arp_interval", number),
    11: ("primary", number),
    14: ("hash_policy", number),
    18: ("min_links", number),
    21: ("lacp_rate", number),
}
_BOND_MODES = (
    "balance-rr",
    "active-backup",
    "balance-xor",
    "broadcast",
    "802.3ad",
    "balance-tlb",
    "balance-alb",
)
_BOND_LACP = 4
_HASH_POLICIES = ("layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4", "vlan+srcmac")
_BOND_PORT: Layout = {
    1: ("state", number),
    2: ("mii_status", number),
    3: ("failures", number),
    6: ("aggregator", number),
}
_MII = ("up", "going_down", "down", "going_back")
_VF: Layout = {
    1: ("mac", raw),
    2: ("vlan", raw),
    4: ("spoof_check", raw),
    5: ("link_state", raw),
    9: ("trust", raw),
}
_VF_LINK_STATES = ("auto", "enable", "disable")
# What a driver leaves as it was given does not say anything (rtnl_fill_vfinfo, -1).
_VF_UNSET = 0xFFFFFFFF
_MAC_LENGTH = 6
_XDP: Layout = {
    2: ("attached", number),
    4: ("program", number),
    5: ("native", number),
    6: ("generic", number),
    7: ("offload", number),
}
_XDP_MODES = ("none", "native", "generic", "offload", "multiple")


def bridge(data: bytes) -> Bridge:
    """A bridge's own settings."""
    found = {**_BRIDGE_WITHOUT, **decode(data, _BRIDGE)}
    if "vlan_protocol" in found:
        found["vlan_protocol"] = _protocol(found["vlan_protocol"])
    return Bridge(**found)


def bridge_port(data: bytes) -> BridgePort:
    """What a bridge says of its port."""
    found = decode(data, _PORT)
    found["state"] = _word(_PORT_STATES, found["state"])
    return BridgePort(**found)


def tap(data: bytes) -> Tap:
    """A tun or tap device."""
    found = decode(data, _TUN)
    found["mode"] = "tap" if found.pop("type", _TUN_TAP) == _TUN_TAP else "tun"
    return Tap(**found)


def vlan(data: bytes) -> Vlan:
    """An 802.1Q or 802.1ad device."""
    found = decode(data, _VLAN)
    return Vlan(vid=found["vid"], protocol=_protocol(found.get("protocol", 0x8100)))


def macvlan(data: bytes) -> Macvlan:
    """A macvlan or macvtap."""
    mode = decode(data, _MACVLAN)["mode"]
    return Macvlan(mode=_MACVLAN_MODES.get(mode, str(mode)))


def ipvlan(data: bytes) -> Ipvlan:
    """An ipvlan or ipvtap."""
    mode = decode(data, _MACVLAN)["mode"]
    return Ipvlan(mode=_IPVLAN_MODES.get(mode, str(mode)))


def vxlan(data: bytes, names: Names) -> tuple[Vxlan, str | None]:
    """A VXLAN tunnel, and the link it is bound to."""
    found = {key: value for key, value in decode(data, _VXLAN).items() if value not in _NOBODY}
    lower = names.get(found.pop("lower", 0))
    if not found.get("external"):
        found.pop("external", None)
    return Vxlan(**{"vni": 0, "learning": False, **found}), lower


def vrf(data: bytes) -> Vrf:
    """A routing domain."""
    return Vrf(table=decode(data, {1: ("table", number)})["table"])


def bond(data: bytes, names: Names) -> Bond:
    """A bond."""
    found = decode(data, _BOND)
    mode = found["mode"]
    lacp = found.pop("lacp_rate", None)
    found["mode"] = _word(_BOND_MODES, mode)
    found["hash_policy"] = _word(_HASH_POLICIES, found.get("hash_policy", 0))
    for name in ("active", "primary"):
        found[name] = names.get(found.get(name, 0))
    if mode == _BOND_LACP and lacp is not None:
        found["lacp_rate"] = "fast" if lacp else "slow"
    return Bond(**found)


def bond_port(data: bytes) -> BondPort:
    """What a bond says of its port."""
    found = decode(data, _BOND_PORT)
    found["state"] = "backup" if found.get("state") else "active"
    found["mii_status"] = _word(_MII, found.get("mii_status", 0))
    return BondPort(**found)


def virtual_functions(data: bytes) -> tuple[VirtualFunction, ...]:
    """All SR-IOV virtual functions (IFLA_VFINFO_LIST)."""
    return tuple(_virtual_function(one) for _, one in each(data))


def xdp(data: bytes) -> tuple[Xdp, ...]:
    """The programs at a link's front door."""
    found = decode(data, _XDP)
    each_of = tuple(
        Xdp(mode=mode, program=found[mode])
        for mode in ("native", "generic", "offload")
        if found.get(mode)
    )
    attached = found.get("attached", 0)
    if each_of or not attached:
        return each_of
    # Before 4.20 there is one, and one id.
    return (Xdp(mode=_word(_XDP_MODES, attached), program=found.get("program")),)


def _virtual_function(data: bytes) -> VirtualFunction:
    found = decode(data, _VF)
    index, vlan_id, qos = struct.unpack_from("=III", found["vlan"]) if "vlan" in found else (0,) * 3
    if "mac" in found:
        (index,) = struct.unpack_from("=I", found["mac"])
    spoof, trust, state = (_setting(found.get(n)) for n in ("spoof_check", "trust", "link_state"))
    return VirtualFunction(
        index=index,
        mac=mac(found["mac"][4 : 4 + _MAC_LENGTH]) if "mac" in found else None,
        vlan=vlan_id,
        qos=qos,
        spoof_check=None if spoof is None else bool(spoof),
        trust=None if trust is None else bool(trust),
        link_state=None if state is None else _word(_VF_LINK_STATES, state),
    )


def _setting(data: bytes | None) -> int | None:
    """The second word of ``struct ifla_vf_*``; ``None`` when the driver did not fill it in."""
    if data is None:
        return None
    value: int = struct.unpack_from("=II", data)[1]
    return None if value == _VF_UNSET else value


def _protocol(number_: int) -> str:
    return _PROTOCOLS.get(number_, f"{number_:#06x}")


def _word(words: tuple[str, ...], index: int) -> str:
    return words[index] if index < len(words) else str(index)
