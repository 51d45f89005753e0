"""Facts of a guest from what ``ip -j`` prints inside it.

The guest may print what it likes: whatever is not a fact of the kind that is expected raises
ValueError, LookupError or TypeError, and nothing else.

Source: iproute2, ip/ipaddress.c, iproute.c, iprule.c, ipneigh.c.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kvmdiag.collect.guest.values import (
    NAME,
    an_object,
    checked_ip,
    checked_mac,
    checked_name,
    entries,
    number,
    objects,
    prefix,
    table,
)
from kvmdiag.collect.kernel.nexthops import BLACKHOLE, resolved
from kvmdiag.model.link import Bridge, BridgePort, Link, LinkRef, Tap, Vlan
from kvmdiag.model.stack import Address, Neighbour, NextHop, NexthopObject, Route

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "links": ("-j", "-d", "link", "show"),
    "addresses": ("-j", "addr", "show"),
    "routes 4": ("-j", "-d", "-N", "-4", "route", "show", "table", "all"),
    "routes 6": ("-j", "-d", "-N", "-6", "route", "show", "table", "all"),
    "rules 4": ("-j", "-N", "-4", "rule", "show"),
    "rules 6": ("-j", "-N", "-6", "rule", "show"),
    "neighbours": ("-j", "neigh", "show"),
    "proxies": ("-j", "neigh", "show", "proxy"),
}
"""What ``ip`` is asked, by what it is called for."""

_ROUTE_TYPES = {
    "1": "unicast",
    "2": "local",
    "3": "broadcast",
    "4": "anycast",
    "5": "multicast",
    "6": "blackhole",
    "7": "unreachable",
    "8": "prohibit",
    "9": "throw",
}
_SCOPES = {"0": "global", "200": "site", "253": "link", "254": "host", "255": "nowhere"}
_PROTOCOLS = {
    "0": "unspec",
    "1": "redirect",
    "2": "kernel",
    "3": "boot",
    "4": "static",
    "9": "ra",
    "16": "dhcp",
    "186": "bgp",
    "188": "ospf",
}


def links(text: str, guest: str) -> tuple[Link, ...]:
    """Links from ``ip -j -d link``; ``guest`` is the name of the guest's stack."""
    return tuple(_link(entry, guest) for entry in entries(text))


def permanent_macs(text: str) -> dict[str, str]:
    """By name of a link, the MAC address of the hardware where another one is in use."""
    return {
        checked_name(entry["ifname"]): checked_mac(entry["permaddr"])
        for entry in entries(text)
        if "permaddr" in entry
    }


def addresses(text: str) -> tuple[Address, ...]:
    """Addresses from ``ip -j addr``."""
    return tuple(
        Address(
            link=checked_name(link["ifname"]),
            address=checked_ip(entry["local"]),
            prefix_length=number(entry["prefixlen"]),
            scope=str(entry.get("scope", "global"))[:NAME],
            secondary=bool(entry.get("secondary")),
            peer=checked_ip(entry["address"]) if "address" in entry else None,
        )
        for link in entries(text)
        for entry in objects(link.get("addr_info", []))
        if entry.get("family") in ("inet", "inet6")
    )


def routes(
    text: str, version: int, objects_: Mapping[int, NexthopObject] | None
) -> tuple[Route, ...]:
    """Routes from ``ip -j -d -N route show table all``, of one IP version.

    ``objects_`` are the nexthop objects, ``None`` when they could not be read.
    """
    return tuple(_route(entry, version, objects_) for entry in entries(text))


def neighbours(text: str) -> tuple[Neighbour, ...]:
    """Entries from ``ip -j neigh``."""
    return tuple(
        Neighbour(
            link=checked_name(entry["dev"]),
            address=checked_ip(entry["dst"]),
            mac=checked_mac(entry["lladdr"]) if "lladdr" in entry else None,
            state=str([*entry.get("state", []), "none"][0]).lower()[:NAME],
            proxy="proxy" in entry,
        )
        for entry in entries(text)
    )


def _link(entry: dict[str, Any], guest: str) -> Link:
    info = an_object(entry.get("linkinfo", {}))
    kind = info.get("info_kind")
    data = an_object(info.get("info_data", {}))
    flags = entry.get("flags", [])
    name = checked_name(entry["ifname"])
    lower = checked_name(entry["link"]) if entry.get("link") is not None else None
    peer = LinkRef(guest, lower) if kind == "veth" and lower else None
    link_type = str(entry.get("link_type", "ether"))[:NAME]
    return Link(
        index=number(entry["ifindex"]),
        name=name,
        kind=None if kind is None else checked_name(kind),
        type=link_type,
        mac=checked_mac(entry["address"])
        if link_type in ("ether", "loopback") and "address" in entry
        else None,
        mtu=number(entry.get("mtu", 1500)),
        up="UP" in flags,
        # Told of a link that is up only (dev_get_flags in net/core/dev.c).
        carrier="LOWER_UP" in flags or "UP" not in flags,
        operstate=str(entry.get("operstate", "unknown")).lower()[:NAME],
        master=checked_name(entry["master"]) if "master" in entry else None,
        lower=lower if kind != "veth" else None,
        peer=peer,
        # The far end of a container's cable is in a namespace that was not looked into.
        guest=f"a namespace in {guest}" if kind == "veth" and peer is None else None,
        bridge=_bridge(data) if kind == "bridge" else None,
        port=_port(info),
        tap=Tap(mode="tun" if data.get("type") == "tun" else "tap") if kind == "tun" else None,
        vlan=Vlan(vid=number(data["id"])) if kind == "vlan" else None,
    )


def _bridge(data: dict[str, Any]) -> Bridge:
    return Bridge(
        stp=bool(data.get("stp_state")),
        forward_delay=number(data.get("forward_delay", 1500)),
        vlan_filtering=bool(data.get("vlan_filtering")),
        nf_call_iptables=bool(data.get("nf_call_iptables")),
        nf_call_ip6tables=bool(data.get("nf_call_ip6tables")),
        nf_call_arptables=bool(data.get("nf_call_arptables")),
        multicast_snooping=bool(data.get("mcast_snooping", True)),
    )


def _port(info: dict[str, Any]) -> BridgePort | None:
    if info.get("info_slave_kind") != "bridge":
        return None
    data = an_object(info.get("info_slave_data", {}))
    return BridgePort(
        state=str(data.get("state", "forwarding"))[:NAME],
        isolated=bool(data.get("isolated")),
        hairpin=bool(data.get("hairpin")),
        learning=bool(data.get("learning", True)),
        flood=bool(data.get("flood", True)),
    )


def _route(
    entry: dict[str, Any], version: int, objects_: Mapping[int, NexthopObject] | None
) -> Route:
    kind = str(entry.get("type", "unicast"))
    kind = _ROUTE_TYPES.get(kind, kind[:NAME])
    protocol = str(entry.get("protocol", "boot"))
    scope = str(entry.get("scope", "global"))
    metrics = objects(entry.get("metrics", []))
    source = entry.get("from")
    nexthop = number(entry["nhid"]) if "nhid" in entry else None
    hops = tuple(_next_hops(entry))
    if nexthop is not None and not hops and kind == "unicast":
        kind, hops = resolved(nexthop, objects_ or {})
    return Route(
        destination=prefix(entry["dst"], version),
        table=table(entry.get("table", "main")),
        type=kind,
        scope=_SCOPES.get(scope, scope[:NAME]),
        protocol=_PROTOCOLS.get(protocol, protocol[:NAME]),
        metric=number(entry.get("metric", 0)),
        tos=int(str(entry.get("tos", "0")), 0),
        source=prefix(source, version) if source is not None else None,
        preferred_source=checked_ip(entry["prefsrc"]) if "prefsrc" in entry else None,
        mtu=next((number(metric["mtu"]) for metric in metrics if "mtu" in metric), None),
        next_hops=() if nexthop is not None and kind == BLACKHOLE else hops,
        nexthop=nexthop,
    )


def _next_hops(entry: dict[str, Any]) -> Iterator[NextHop]:
    for hop in objects(entry.get("nexthops", [entry])):
        if not hop.keys() & {"dev", "gateway", "via"}:
            continue
        via = an_object(hop.get("via", {})).get("host", hop.get("gateway"))
        flags = {str(flag)[:NAME] for flag in hop.get("flags", [])}
        yield NextHop(
            link=checked_name(hop["dev"]) if "dev" in hop else None,
            gateway=None if via is None else checked_ip(via),
            weight=number(hop.get("weight", 1)),
            flags=frozenset(flags | ({"encap"} if "encap" in hop else set())),
        )
