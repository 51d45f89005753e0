"""A guest's nexthop objects, and what its bridges and tunnels know, as ``ip`` and ``bridge`` say.

As in ``guest_iproute``, what is not as expected raises ValueError, LookupError or TypeError, and
nothing else. Source: iproute2, ip/ipnexthop.c; bridge/vlan.c, mdb.c, fdb.c.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from kvmdiag.collect.guest.values import (
    NAME,
    checked_ip,
    checked_mac,
    checked_name,
    entries,
    number,
    objects,
)
from kvmdiag.model.stack import (
    BridgeVlan,
    FdbEntry,
    MdbEntry,
    NextHop,
    NexthopObject,
    TunnelEntry,
)

COMMANDS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "nexthops": ("ip", ("-j", "-N", "nexthop", "show")),
    "fdb": ("bridge", ("-j", "fdb", "show")),
    "bridge_vlans": ("bridge", ("-j", "vlan", "show")),
    "mdb": ("bridge", ("-j", "mdb", "show")),
}
"""What is run for each fact; ``fdb`` is for tunnels as well."""

_LAST_VLAN = 4094
# All VLANs on a hundred ports; each of the ranges that a guest prints may be that many.
_MOST_VLANS = 100 * _LAST_VLAN


def nexthops(text: str) -> tuple[NexthopObject, ...]:
    """Objects from ``ip -j nexthop``."""
    return tuple(
        NexthopObject(
            id=number(entry["id"]),
            next_hop=_next_hop(entry) if entry.keys() & {"dev", "gateway"} else None,
            group=tuple(
                (number(member["id"]), number(member.get("weight", 1)))
                for member in objects(entry.get("group", []))
            ),
            blackhole="blackhole" in entry,
            fdb="fdb" in entry,
        )
        for entry in entries(text)
    )


def _next_hop(entry: Mapping[str, Any]) -> NextHop:
    flags = {str(flag)[:NAME] for flag in entry.get("flags", [])}
    return NextHop(
        link=checked_name(entry["dev"]) if "dev" in entry else None,
        gateway=checked_ip(entry["gateway"]) if "gateway" in entry else None,
        flags=frozenset(flags | ({"encap"} if "encap" in entry else set())),
    )


def fdb(text: str) -> tuple[FdbEntry, ...]:
    """Entries from ``bridge -j fdb``; a device's own filter list (``self``) is not a bridge's."""
    return tuple(
        FdbEntry(
            bridge=checked_name(entry["master"]),
            port=checked_name(entry["ifname"]),
            mac=checked_mac(entry["mac"]),
            local=entry.get("state") == "permanent",
            static=entry.get("state") == "static",
            vlan=number(entry["vlan"]) if "vlan" in entry else None,
            learned_elsewhere="extern_learn" in entry.get("flags", []),
            sticky="sticky" in entry.get("flags", []),
        )
        for entry in entries(text)
        if "master" in entry and "self" not in entry.get("flags", [])
    )


def tunnels(text: str) -> tuple[TunnelEntry, ...]:
    """The peers of tunnels, from the same listing."""
    return tuple(
        TunnelEntry(
            link=checked_name(entry["ifname"]),
            mac=checked_mac(entry["mac"]),
            remote=checked_ip(entry["dst"]),
            port=number(entry["port"]) if "port" in entry else None,
            vni=number(entry["vni"]) if "vni" in entry else None,
            via=checked_name(entry["viaIf"]) if "viaIf" in entry else None,
        )
        for entry in entries(text)
        if "dst" in entry and "self" in entry.get("flags", [])
    )


def bridge_vlans(text: str) -> tuple[BridgeVlan, ...]:
    """VLANs of bridges and their ports from ``bridge -j vlan``; of a range each one."""
    every = (
        vlan
        for entry in entries(text)
        for told in objects(entry.get("vlans", []))
        for vlan in _vlans(checked_name(entry["ifname"]), told)
    )
    found = tuple(islice(every, _MOST_VLANS + 1))
    if len(found) > _MOST_VLANS:
        raise ValueError(f"more than {_MOST_VLANS} VLANs of bridge ports")
    return found


def _vlans(link: str, told: Mapping[str, Any]) -> Iterator[BridgeVlan]:
    first = number(told["vlan"])
    last = number(told.get("vlanEnd", first))
    if last > _LAST_VLAN:
        raise ValueError("a VLAN that is none")
    flags = {str(flag) for flag in told.get("flags", [])}
    for vid in range(first, last + 1):
        yield BridgeVlan(
            link=link, vid=vid, pvid="PVID" in flags, untagged="Egress Untagged" in flags
        )


def mdb(text: str) -> tuple[MdbEntry, ...]:
    """Multicast groups from ``bridge -j mdb``."""
    return tuple(
        MdbEntry(
            bridge=checked_name(entry["dev"]),
            port=checked_name(entry["port"]),
            group=_group(str(entry["grp"])),
            vid=number(entry.get("vid", 0)),
            permanent=entry.get("state") == "permanent",
            blocked="blocked" in entry.get("flags", []),
        )
        for told in entries(text)
        for entry in objects(told.get("mdb", []))
    )


def _group(text: str) -> str:
    """An address, or the MAC address of a group that is no IP multicast."""
    return checked_mac(text) if text.count(":") == 5 and "::" not in text else checked_ip(text)
