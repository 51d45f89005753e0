"""Facts of a guest from what ``ip -j`` and ``bridge -j`` print inside it.

The guest may print what it likes: whatever is not a fact of the kind that is expected raises
ValueError, LookupError or TypeError, and nothing else.

Source: iproute2, ip/ipaddress.c, iproute.c, iprule.c, ipneigh.c; bridge/fdb.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

from kvmdiag.collect.guest_values import (
    NAME,
    an_object,
    checked_ip,
    checked_mac,
    checked_name,
    entries,
    number,
    objects,
)
from kvmdiag.model.link import Bridge, BridgePort, Link, LinkRef, Tap, Vlan
from kvmdiag.model.stack import Address, FdbEntry, Neighbour, NextHop, PolicyRule, Route

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
_TABLES = {"local": 255, "main": 254, "default": 253}
_ACTIONS = {"6": "blackhole", "7": "unreachable", "8": "prohibit", "3": "nop"}
_IP_PROTOCOLS = {"ipproto-1": "icmp", "ipproto-6": "tcp", "ipproto-17": "udp"}
_RULE_KEYS = frozenset(
    (
        "priority",
        "not",
        "src",
        "srclen",
        "dst",
        "dstlen",
        "tos",
        "fwmark",
        "fwmask",
        "iif",
        "iif_detached",
        "oif",
        "oif_detached",
        "table",
        "suppress_prefixlen",
        "ipproto",
        "sport",
        "sport_start",
        "sport_end",
        "dport",
        "dport_start",
        "dport_end",
        "action",
        "goto",
        "nop",
        "protocol",
        "unresolved",
    )
)


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


def routes(text: str, version: int) -> tuple[Route, ...]:
    """Routes from ``ip -j -d -N route show table all``, of one IP version."""
    return tuple(_route(entry, version) for entry in entries(text))


def policy_rules(text: str, version: int) -> tuple[PolicyRule, ...]:
    """Rules from ``ip -j -N rule``, of one IP version."""
    return tuple(_rule(entry, version) for entry in entries(text))


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
        )
        for entry in entries(text)
        if "master" in entry and "self" not in entry.get("flags", [])
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


def _route(entry: dict[str, Any], version: int) -> Route:
    kind = str(entry.get("type", "unicast"))
    protocol = str(entry.get("protocol", "boot"))
    scope = str(entry.get("scope", "global"))
    metrics = objects(entry.get("metrics", []))
    source = entry.get("from")
    return Route(
        destination=_prefix(entry["dst"], version),
        table=_table(entry.get("table", "main")),
        type=_ROUTE_TYPES.get(kind, kind[:NAME]),
        scope=_SCOPES.get(scope, scope[:NAME]),
        protocol=_PROTOCOLS.get(protocol, protocol[:NAME]),
        metric=number(entry.get("metric", 0)),
        tos=int(str(entry.get("tos", "0")), 0),
        source=_prefix(source, version) if source is not None else None,
        preferred_source=checked_ip(entry["prefsrc"]) if "prefsrc" in entry else None,
        mtu=next((number(metric["mtu"]) for metric in metrics if "mtu" in metric), None),
        next_hops=tuple(_next_hops(entry)),
    )


def _next_hops(entry: dict[str, Any]) -> Iterator[NextHop]:
    if "nhid" in entry and "dev" not in entry and "nexthops" not in entry:
        raise ValueError("a route names only the number of a nexthop object")
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


def _rule(entry: dict[str, Any], version: int) -> PolicyRule:
    action = str(entry.get("action", "goto" if "goto" in entry else "lookup"))
    protocol = entry.get("ipproto")
    mark = entry.get("fwmark")
    mask = entry.get("fwmask")
    return PolicyRule(
        priority=number(entry["priority"]),
        version=version,
        action=_ACTIONS.get(action, action[:NAME]),
        table=_table(entry["table"]) if "table" in entry else None,
        source=_selector(entry, "src", version),
        destination=_selector(entry, "dst", version),
        iif=checked_name(entry["iif"]) if "iif" in entry else None,
        oif=checked_name(entry["oif"]) if "oif" in entry else None,
        fwmark=None if mark is None else int(str(mark), 0),
        fwmask=None if mask is None else int(str(mask), 0),
        tos=int(str(entry.get("tos", "0")), 0),
        protocol=None
        if protocol is None
        else _IP_PROTOCOLS.get(str(protocol), str(protocol)[:NAME]),
        source_ports=_ports(entry, "sport"),
        destination_ports=_ports(entry, "dport"),
        goto=number(entry["goto"]) if "goto" in entry else None,
        suppress_prefix_length=number(entry["suppress_prefixlen"])
        if "suppress_prefixlen" in entry
        else None,
        invert="not" in entry,
        unknown=tuple(sorted(checked_name(key) for key in entry if key not in _RULE_KEYS)),
    )


def _selector(entry: dict[str, Any], key: str, version: int) -> str | None:
    value = entry.get(key, "all")
    if value == "all":
        return None
    length = entry.get(f"{key}len")
    return _prefix(value if length is None else f"{value}/{number(length)}", version)


def _ports(entry: dict[str, Any], key: str) -> tuple[int, int] | None:
    if key in entry:
        return number(entry[key]), number(entry[key])
    if f"{key}_start" in entry:
        return number(entry[f"{key}_start"]), number(entry[f"{key}_end"])
    return None


def _table(value: object) -> int:
    text = str(value)
    return _TABLES[text] if text in _TABLES else int(text)


def _prefix(value: object, version: int) -> str:
    text = str(value)
    if text in ("default", "any", "all"):
        return "0.0.0.0/0" if version == 4 else "::/0"
    network = ip_network(text, strict=False)
    if network.version != version:
        raise ValueError(f"a destination of another IP version than {version}")
    return str(network)
