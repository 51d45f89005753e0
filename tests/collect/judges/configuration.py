"""Configurations of a namespace by a small grammar: a little of everything, drawn by chance."""

from __future__ import annotations

import random

_PORT_FLAGS = (
    *("hairpin", "guard", "root_block", "fastleave", "learning", "flood", "mcast_flood"),
    *("bcast_flood", "mcast_to_unicast", "neigh_suppress", "isolated"),
)
PROXIES = (("b0", "192.0.2.99"), ("b0", "2001:db8::99"))
"""Links and addresses that every configuration answers for others."""
_TABLES = (254, 77, 300, 70000)
_PROTOCOLS = ("boot", "static", "dhcp", "ra")


def configure(host, chance: random.Random) -> None:
    """Set the namespace up; what this kernel has not (macvlan, vxlan, dummy) is left out."""
    # Link-local addresses and what goes with them would come some time later.
    host.sysctl("net.ipv6.conf.default.addr_gen_mode", 1)
    host.ip(*_links(chance))
    for line in _optional_links(chance):
        host.run(f"ip {line}", check=False)
    host.ip(*_addresses(chance), *_nexthops(), *_routes(chance))
    for version, lines in _rules(chance).items():
        host.run(f"ip -{version} -batch -", input="\n".join([*lines, ""]))
    host.ip(*_neighbours(chance))
    for line in _forwarding(chance):
        host.run(f"bridge {line}", check="vx0" not in line)
    host.run(f"tc qdisc add dev a0 root handle {chance.randrange(1, 0xFFFF):x}: pfifo limit 50")
    host.run("tc qdisc add dev a1 clsact")


def _mac(chance: random.Random) -> str:
    return "02:" + ":".join(f"{chance.randrange(256):02x}" for _ in range(5))


def _onoff(chance: random.Random) -> str:
    return chance.choice(("on", "off"))


def _links(chance: random.Random) -> list[str]:
    bits = " ".join(f"nf_call_{name} {chance.randrange(2)}" for name in ("iptables", "ip6tables"))
    lines = [
        "link set lo up",
        f"link add br0 address {_mac(chance)} mtu {chance.randrange(1280, 9000)} type bridge"
        f" forward_delay {chance.randrange(200, 3000)} ageing_time {chance.randrange(60000, 99999)}"
        f" priority {chance.randrange(65536)} group_fwd_mask {8 * chance.randrange(8)} {bits}",
        "link add br1 type bridge",
    ]
    for number in range(3):
        lines += [
            f"link add a{number} numtxqueues {chance.randrange(1, 5)} mtu"
            f" {chance.randrange(1280, 9000)} type veth peer name b{number}",
            f"link set a{number} master br{chance.randrange(2)} group {chance.randrange(9)}",
            f"link set a{number} alias {chance.choice(('uplink', 'to.the-guest'))}",
            f"link set b{number} arp {_onoff(chance)} promisc {_onoff(chance)}"
            f" allmulticast {_onoff(chance)} txqueuelen {chance.randrange(1, 2000)}",
            f"link property add dev b{number} altname long{number} altname other{number}",
            f"link set a{number} type bridge_slave priority {chance.randrange(64)}"
            f" cost {chance.randrange(1, 65535)} "
            + " ".join(f"{flag} {_onoff(chance)}" for flag in chance.sample(_PORT_FLAGS, 5)),
            f"link set a{number} {chance.choice(('up', 'down')) if number else 'up'}",
        ]
    return [*lines, "link set b0 up", "link set br0 up", "link set br1 up"]


def _optional_links(chance: random.Random) -> list[str]:
    mode = chance.choice(("private", "vepa", "bridge"))
    return [
        f"link set br0 type bridge mcast_snooping {chance.randrange(2)}",
        f"link set br0 type bridge vlan_filtering {chance.randrange(2)}",
        "link add d0 up type dummy",
        f"link add m0 link b0 address {_mac(chance)} up type macvlan mode {mode}",
        f"link add vx0 type vxlan id {chance.randrange(1, 2**24)} remote 198.51.100.9"
        f" dstport {chance.randrange(1024, 65535)} {chance.choice(('', 'no'))}learning",
    ]


def _addresses(chance: random.Random) -> list[str]:
    def lifetime() -> str:
        preferred = chance.choice((0, 4000, 5000))
        return chance.choice(("", f"valid_lft 6000 preferred_lft {preferred}"))

    lines = [
        "addr add 192.0.2.1/24 dev b0",
        "addr add 2001:db8::1/64 dev b0 nodad",
        f"addr add 192.0.2.{chance.randrange(2, 9)}/24 dev b0 {lifetime()}",
        f"addr add 10.0.0.1 peer 10.0.0.2/{chance.randrange(24, 33)} dev b0",
        "addr add 2001:db8:1::1 peer 2001:db8:1::2/128 dev b0 nodad",
    ]
    for number in range(4):
        extra = chance.choice(("", "noprefixroute"))
        scope = chance.choice(("global", "link", "host", "site"))
        lines += [
            f"addr add 10.{number + 1}.0.1/{chance.randrange(17, 32)} dev br1 scope {scope}"
            f" {extra} {lifetime()}",
            f"addr add 2001:db8:9:{number}::1/{chance.randrange(48, 128)} dev br1 nodad"
            f" {extra} {lifetime()}",
        ]
    return lines


def _nexthops() -> list[str]:
    return [
        "nexthop add id 1 via 192.0.2.8 dev b0",
        "nexthop add id 2 via 192.0.2.9 dev b0",
        "nexthop add id 3 group 1,7/2,2",
        "route add 198.18.0.0/16 nhid 1",
        "route add 198.19.0.0/16 nhid 3",
    ]


def _routes(chance: random.Random) -> list[str]:
    lines = ["route add default via 192.0.2.9", "route add default via 2001:db8::9 dev b0"]
    for number in range(8):
        for to, gateway, source in (
            (f"203.0.113.{number * 8}/{chance.randrange(29, 33)}", "192.0.2.9", "192.0.2.1"),
            (f"2001:db8:{number:x}0::/48", "2001:db8::9", "2001:db8::1"),
        ):
            way = chance.choice(
                (
                    f"via {gateway} dev b0",
                    f"via {gateway} dev b0 onlink",
                    f"via {gateway} dev b0 mtu {chance.randrange(1280, 1500)} advmss 1200",
                    f"dev b0 src {source}",
                    f"nexthop via {gateway} dev b0 weight {chance.randrange(1, 256)}"
                    f" nexthop via {gateway[:-1]}7 dev b0",
                )
            )
            kind = chance.choice(("unreachable", "blackhole", "prohibit", "throw", "unicast"))
            common = (
                f"table {chance.choice(_TABLES)} metric {chance.randrange(1, 5000)}"
                f" proto {chance.choice(_PROTOCOLS)}"
            )
            line = f"{common} {way}" if kind == "unicast" else common
            lines.append(f"route add {kind} {to} {line}")
    return [
        *lines,
        "route add 203.0.114.0/24 via inet6 2001:db8::7 dev b0",
        "route add 203.0.115.0/24 tos 0x10 via 192.0.2.7",
        "route add 2001:db8:99::/48 from 2001:db8:98::/48 via 2001:db8::7 dev b0",
    ]


def _rules(chance: random.Random) -> dict[int, list[str]]:
    lines: dict[int, list[str]] = {4: [], 6: []}
    for number in range(12):
        version, network = chance.choice(((4, "10.%d.0.0/16"), (6, "2001:db8:%d::/48")))
        every = (
            f"from {network % chance.randrange(9)}",
            f"to {network % chance.randrange(9)}",
            "iif br0",
            "oif gone0",
            f"fwmark {chance.randrange(1, 2**32):#x}/{chance.randrange(1, 2**32):#x}",
            "tos 0x10",
            f"ipproto {chance.choice(('tcp', 'udp'))} sport 53 dport 1000-2000",
        )
        some = " ".join(chance.sample(every, chance.randrange(1, 4)))
        action = chance.choice(
            (
                f"lookup {chance.choice(_TABLES)}",
                "lookup main suppress_prefixlength 0",
                "goto 32766",
                "nop",
                "blackhole",
                "unreachable",
                "prohibit",
            )
        )
        negated = chance.choice(("", "not"))
        lines[version].append(f"rule add {negated} {some} priority {100 + number} {action}")
    return lines


def _neighbours(chance: random.Random) -> list[str]:
    lines = []
    for number in range(10, 16):
        state = chance.choice(("permanent", "stale", "noarp"))
        for address in (f"192.0.2.{number}", f"2001:db8::{number}"):
            flag = chance.choice(("", "router", "extern_learn"))
            lines.append(f"neigh add {address} lladdr {_mac(chance)} dev b0 nud {state} {flag}")
    return [*lines, *(f"neigh add proxy {address} dev {link}" for link, address in PROXIES)]


def _forwarding(chance: random.Random) -> list[str]:
    lines = []
    for number in range(6):
        kind = chance.choice(("static", "local", "sticky static"))
        lines.append(f"fdb add {_mac(chance)} dev a{number % 3} master {kind}")
    return [
        *lines,
        f"fdb add {_mac(chance)} dev a0 master dynamic",  # of a port that forwards
        f"fdb add {_mac(chance)} dev a0 master extern_learn",
        f"fdb append 00:00:00:00:00:00 dev vx0 dst 198.51.100.{chance.randrange(10, 99)}",
        f"fdb add {_mac(chance)} dev vx0 dst 198.51.100.7 port {chance.randrange(1, 65535)}"
        f" vni {chance.randrange(1, 2**24)}",
    ]
