"""A namespace as pyroute2 reads it, in the words of the model, by pyroute2's own names."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from pyroute2 import IPRoute
from pyroute2.netlink.rtnl import ifaddrmsg, ndmsg, rt_proto, rt_scope, rt_type
from pyroute2.netlink.rtnl.fibmsg import FR_ACT_VALUES
from pyroute2.netlink.rtnl.ifinfmsg import IFF_VALUES

from kvmdiag.model.stack import (
    Address,
    FdbEntry,
    Neighbour,
    NextHop,
    PolicyRule,
    Route,
    TunnelEntry,
)
from kvmdiag.system.namespaces import entered

from .pyroute2_names import BRIDGE, PORT, VXLAN

# FRA_IP_PROTO: names as in /etc/protocols.
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}
_ACTIONS = {"FR_ACT_TO_TBL": "lookup"}
# BR_STATE_* of include/uapi/linux/if_bridge.h, which pyroute2 has no names for.
_PORT_STATES = ("disabled", "listening", "learning", "forwarding", "blocking")
_ADDRESS_FLAGS = {
    "NODAD": "nodad",
    "OPTIMISTIC": "optimistic",
    "DADFAILED": "dadfailed",
    "HOMEADDRESS": "home",
    "DEPRECATED": "deprecated",
    "TENTATIVE": "tentative",
    "MANAGETEMPADDR": "mngtmpaddr",
    "NOPREFIXROUTE": "noprefixroute",
    "MCAUTOJOIN": "autojoin",
    "STABLE_PRIVACY": "stable-privacy",
}
ORDERED = ("addresses", "rules")
"""What the kernel tries in the order it lists; addresses link by link, IPv4 first."""


def read_all(path: str, proxies: Iterable[tuple[str, str]]) -> dict[str, list]:
    """Everything by what it is; sorted where the kernel's order is that of hashed tables.

    Args:
        path: of the namespace.
        proxies: links and addresses that are answered for others there.

    """
    # With netns= it would fork, and end its child by a signal that these tests take for Ctrl-C.
    with entered(path), IPRoute() as ipr:
        messages = list(ipr.get_links())
        names = {message["index"]: message.get("ifname") for message in messages}
        neighbours = [
            message
            for family in (socket.AF_INET, socket.AF_INET6)
            for message in ipr.get_neighbours(family=family)
        ]
        # These are not told by get_neighbours, only one by one.
        for link, address in proxies:
            index = ipr.link_lookup(ifname=link)[0]
            neighbours += ipr.neigh("get", ifindex=index, dst=address, flags=ndmsg.NTF_PROXY)
        fdb = list(ipr.fdb("dump"))
        found = {
            "links": [one for message in messages for one in _link(message, names).items()],
            "addresses": [
                _address(message, names)
                for message in sorted(ipr.get_addr(), key=lambda message: message["index"])
            ],
            "routes": [_route(message, names) for message in ipr.get_routes()],
            "rules": [
                _rule(message)
                for family in (socket.AF_INET, socket.AF_INET6)
                for message in ipr.get_rules(family=family)
            ],
            "neighbours": [_neighbour(message, names) for message in neighbours],
            "fdb": [_fdb(m, names) for m in fdb if not m["flags"] & ndmsg.NTF_SELF],
            "tunnels": [_tunnel(m, names) for m in fdb if m.get("NDA_DST")],
            "qdiscs": [_qdisc(message, names) for message in ipr.get_qdiscs()],
        }
    return {
        what: entries if what in ORDERED else sorted(entries, key=repr)
        for what, entries in found.items()
    }


def _link(message, names) -> dict[tuple[str, str], object]:
    flags = {name for bit, name in IFF_VALUES.items() if message["flags"] & bit}
    info = message.get("linkinfo")
    kind = info.get("kind") if info is not None else None
    properties = message.get("IFLA_PROP_LIST")
    found = {
        "index": message["index"],
        "name": message.get("ifname"),
        "kind": kind,
        "mac": message.get("address"),
        "mtu": message.get("mtu"),
        "up": "IFF_UP" in flags,
        "arp": "IFF_NOARP" not in flags,
        "loopback": "IFF_LOOPBACK" in flags,
        "promiscuous": bool(message.get("promiscuity")),
        "all_multicast": bool(message.get("allmulti")),
        "carrier": bool(message.get("carrier")),
        "carrier_changes": message.get("carrier_changes"),
        "operstate": message.get("operstate").lower(),
        "master": names.get(message.get("master")),
        "lower": names.get(message.get("link")) if kind == "macvlan" else None,
        "group": message.get("group"),
        "alias": message.get("ifalias"),
        "alternative_names": tuple(properties.get_attrs("IFLA_ALT_IFNAME")) if properties else (),
        "tx_queue_length": message.get("txqlen"),
        "tx_queues": message.get("num_tx_queues"),
        "rx_queues": message.get("num_rx_queues"),
    }
    data = info.get("data") if info is not None else None
    if kind == "bridge":
        found |= _named("bridge", data, BRIDGE)
    if kind == "vxlan":
        found |= _named("vxlan", data, VXLAN)
    if kind == "macvlan":
        found["macvlan"] = data.get("IFLA_MACVLAN_MODE")
    if info is not None and info.get("slave_kind") == "bridge":
        data = info.get("slave_data")
        found |= _named("port", data, PORT)
        found["port.state"] = _PORT_STATES[data.get("IFLA_BRPORT_STATE")]
    return {(found["name"], what): value for what, value in found.items()}


def _named(part: str, data, names) -> dict[str, int]:
    """The settings that this kernel tells: without VLAN filtering it tells none of VLANs."""
    found = {f"{part}.{ours}": data.get(theirs) for theirs, ours in names.items()}
    return {what: value for what, value in found.items() if value is not None}


def _address(message, names) -> Address:
    version4 = message["family"] == socket.AF_INET
    bits = message.get("IFA_FLAGS")
    flags = {
        name.removeprefix("IFA_F_") for name, bit in ifaddrmsg.IFA_F_NAMES.items() if bits & bit
    }
    words = {word for name, word in _ADDRESS_FLAGS.items() if name in flags}
    if "PERMANENT" not in flags:
        words.add("dynamic")
    if "TEMPORARY" in flags and not version4:  # in IPv4 that bit is SECONDARY
        words.add("temporary")
    far = message.get("IFA_ADDRESS")
    near = message.get("IFA_LOCAL") or far
    return Address(
        link=names[message["index"]],
        address=near,
        prefix_length=message["prefixlen"],
        scope=_scope(message["scope"]),
        secondary=version4 and "SECONDARY" in flags,
        peer=far if far != near else None,
        flags=frozenset(words),
    )


def _scope(value: int) -> str:
    return {"universe": "global"}.get(rt_scope[value], rt_scope[value])


def _route(message, names) -> Route:
    anywhere = "::" if message["family"] == socket.AF_INET6 else "0.0.0.0"
    metrics = message.get("RTA_METRICS")
    hops = message.get("RTA_MULTIPATH")
    if hops is None:
        hops = [message] if message.get("RTA_OIF") else []
    source = message.get("RTA_SRC")
    return Route(
        destination=f"{message.get('RTA_DST') or anywhere}/{message['dst_len']}",
        table=message.get("RTA_TABLE"),
        type=rt_type[message["type"]],
        scope=_scope(message["scope"]),
        protocol=rt_proto[message["proto"]],
        metric=message.get("RTA_PRIORITY") or 0,
        tos=message["tos"],
        source=f"{source}/{message['src_len']}" if source else None,
        preferred_source=message.get("RTA_PREFSRC"),
        mtu=metrics.get("RTAX_MTU") if metrics else None,
        advertised_mss=metrics.get("RTAX_ADVMSS") if metrics else None,
        next_hops=tuple(_hop(hop, names) for hop in hops),
    )


def _hop(hop, names) -> NextHop:
    via = hop.get("RTA_VIA")
    bits = {1: "dead", 2: "pervasive", 4: "onlink", 16: "linkdown"}
    return NextHop(
        link=names[hop.get("RTA_OIF") or hop["oif"]],
        gateway=via["addr"] if via else hop.get("RTA_GATEWAY"),
        weight=hop["hops"] + 1 if "hops" in hop else 1,
        flags=frozenset(word for bit, word in bits.items() if hop["flags"] & bit),
    )


def _rule(message) -> PolicyRule:
    name = FR_ACT_VALUES[message["action"]]
    action = _ACTIONS.get(name, name.removeprefix("FR_ACT_").lower())
    protocol = message.get("FRA_IP_PROTO")
    suppress = message.get("FRA_SUPPRESS_PREFIXLEN")
    return PolicyRule(
        priority=message.get("FRA_PRIORITY") or 0,
        version=6 if message["family"] == socket.AF_INET6 else 4,
        action=action,
        table=message.get("FRA_TABLE") if action == "lookup" else None,
        source=_network(message.get("FRA_SRC"), message["src_len"]),
        destination=_network(message.get("FRA_DST"), message["dst_len"]),
        iif=message.get("FRA_IIFNAME"),
        oif=message.get("FRA_OIFNAME"),
        fwmark=message.get("FRA_FWMARK"),
        fwmask=message.get("FRA_FWMASK"),
        tos=message["tos"],
        protocol=None if protocol is None else _PROTOCOLS[protocol],
        source_ports=_ports(message.get("FRA_SPORT_RANGE")),
        destination_ports=_ports(message.get("FRA_DPORT_RANGE")),
        goto=message.get("FRA_GOTO"),
        suppress_prefix_length=None if suppress in (None, 0xFFFFFFFF) else suppress,
        invert=bool(message["flags"] & 2),  # FIB_RULE_INVERT, which pyroute2 has no name for
    )


def _network(address: str | None, length: int) -> str | None:
    return f"{address}/{length}" if address else None


def _ports(ports: str | None) -> tuple[int, int] | None:
    if ports is None:
        return None
    first, _, last = ports.partition(":")
    return int(first), int(last or first)


def _neighbour(message, names) -> Neighbour:
    flags = message["flags"]
    return Neighbour(
        link=names[message["ifindex"]],
        address=message.get("NDA_DST"),
        mac=message.get("NDA_LLADDR"),
        state=ndmsg.NUD_VALUES[message["state"]].removeprefix("NUD_").lower(),
        proxy=bool(flags & ndmsg.NTF_PROXY),
        router=bool(flags & ndmsg.NTF_ROUTER),
        learned_elsewhere=bool(flags & ndmsg.NTF_EXT_LEARNED),
    )


def _fdb(message, names) -> FdbEntry:
    flags = message["flags"]
    return FdbEntry(
        bridge=names[message.get("NDA_MASTER")],
        port=names[message["ifindex"]],
        mac=message.get("NDA_LLADDR"),
        local=bool(message["state"] & ndmsg.NUD_PERMANENT),
        static=bool(message["state"] & ndmsg.NUD_NOARP),
        vlan=message.get("NDA_VLAN"),
        learned_elsewhere=bool(flags & ndmsg.NTF_EXT_LEARNED),
        sticky=bool(flags & ndmsg.NTF_STICKY),
    )


def _tunnel(message, names) -> TunnelEntry:
    return TunnelEntry(
        link=names[message["ifindex"]],
        mac=message.get("NDA_LLADDR"),
        remote=message.get("NDA_DST"),
        port=message.get("NDA_PORT"),
        vni=message.get("NDA_VNI"),
        via=names.get(message.get("NDA_IFINDEX")),
    )


def _qdisc(message, names) -> tuple[str, str, int]:
    return names[message["index"]], message.get("TCA_KIND"), message["handle"] >> 16
