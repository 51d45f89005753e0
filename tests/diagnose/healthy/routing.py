"""Ways that look odd: two uplinks, a VPN with narrow routes, proxies, a guest that routes."""

from kvmdiag.lab import libvirt_rules
from kvmdiag.lab.libvirt_rules import NatNetwork
from kvmdiag.lab.spec import Ip, Link, Machine, Rules

from .nat_network import RULES
from .parts import ENO1, FORWARDING, OUTSIDE, STRICT, UP, Healthy, bridge, guest, tap, xml

_ENO2 = Link(name="eno2", mac="52:54:00:20:00:10", addresses=("10.2.0.10/24",), peer="second:lan")
_SECOND = Machine(
    name="second",
    links=(Link(name="lan", mac="52:54:00:20:00:01", addresses=("10.2.0.1/24", "10.0.0.77/32")),),
)

# One network by each uplink; strict reverse paths, which both rules satisfy.
_TWO_UPLINKS = Healthy(
    name="two-uplinks-by-policy",
    machines=(
        Machine(
            name="host",
            links=(
                ENO1,
                _ENO2,
                bridge("br1", 0x21, "192.168.50.1/24"),
                bridge("br2", 0x22, "192.168.60.1/24"),
                tap(1, "br1", "red"),
                tap(2, "br2", "blue"),
            ),
            routes=(
                f"{UP} metric 100",
                "default via 10.2.0.1 dev eno2 metric 200",
                "default via 10.2.0.1 dev eno2 table 200",
                "10.2.0.0/24 dev eno2 table 200",
            ),
            sysctls={**FORWARDING, **STRICT},
            rules="*nat\n-A POSTROUTING -s 192.168.50.0/24 -o eno1 -j MASQUERADE\n"
            "-A POSTROUTING -s 192.168.60.0/24 -o eno2 -j MASQUERADE\nCOMMIT\n",
        ),
        guest("red", 1, "192.168.50.11/24", via="192.168.50.1"),
        guest("blue", 2, "192.168.60.11/24", via="192.168.60.1"),
        OUTSIDE,
        _SECOND,
    ),
    pings=(("red", "10.0.0.9"), ("blue", "10.2.0.1"), ("blue", "10.0.0.77")),
    decoys=(
        Ip(
            "host",
            "rule add pref 100 to 192.168.0.0/16 lookup main\n"
            "rule add pref 200 from 192.168.60.0/24 lookup 200\n"
            "rule add pref 201 from 10.2.0.10 lookup 200\n"
            "rule add pref 300 fwmark 0x77 blackhole\n",
        ),
    ),
    hidden=("outside", "second"),
)

# wg-quick's shape, with routes for the office alone. A veth stands in for the tunnel.
_VPN = Healthy(
    name="vpn-with-narrow-routes",
    machines=(
        Machine(
            name="host",
            links=(
                ENO1,
                Link(
                    name="wg0", mac="52:54:00:30:00:10", addresses=("10.8.0.2/24",), peer="vpn:wg0"
                ),
                bridge("virbr0", 0x20, "192.168.122.1/24"),
                tap(1, "virbr0", "vm1"),
            ),
            routes=(
                UP,
                "192.168.0.0/16 via 10.8.0.1 dev wg0",
                "172.16.0.0/12 via 10.8.0.1 dev wg0",
            ),
            sysctls={**FORWARDING, "net.ipv4.conf.all.src_valid_mark": "1"},
            rules=RULES
            + "*raw\n-A PREROUTING -d 10.8.0.2/32 ! -i wg0 -m addrtype ! --src-type LOCAL -j DROP\n"
            "COMMIT\n",
        ),
        guest("vm1", 1, "192.168.122.11/24", via="192.168.122.1"),
        Machine(
            name="vpn",
            links=(
                Link(
                    name="wg0",
                    mac="52:54:00:30:00:01",
                    addresses=("10.8.0.1/24", "192.168.7.7/32"),
                ),
            ),
        ),
        OUTSIDE,
    ),
    pings=(("vm1", "10.0.0.9"), ("vm1", "192.168.7.7"), ("host", "192.168.122.11")),
    decoys=(
        Ip(
            "host",
            "rule add pref 5208 lookup main suppress_prefixlength 0\n"
            "rule add pref 5209 not fwmark 0xca6c lookup main\n"
            "link set wg0 mtu 1420\n",
        ),
    ),
    virtual={
        "default": xml("default", "virbr0", "192.168.122.1", "nat").replace(
            "<ip ", "<dns enable='no'/><ip "
        )
    },
    hidden=("outside", "vpn"),
)

# Guests with addresses of the LAN behind a routed host, as rented servers have them; and a
# routed network that the router outside knows.
_PROXY = Healthy(
    name="routed-with-proxy-arp",
    machines=(
        Machine(
            name="host",
            links=(
                Link(
                    name="eno1",
                    mac="52:54:00:10:00:10",
                    addresses=("10.0.0.10/24",),
                    peer="outside:lan",
                    settings={"conf.proxy_arp": "1"},
                ),
                bridge("br0", 0x20, "10.0.0.10/32"),
                bridge("virbr2", 0x22, "10.10.101.1/24"),
                tap(1, "br0", "rented"),
                tap(2, "virbr2", "routed"),
            ),
            routes=(UP, "10.0.0.50/32 dev br0"),
            sysctls=FORWARDING,
            rules=libvirt_rules.chains()
            + libvirt_rules.routed_rules(NatNetwork("virbr2", "10.10.101.0/24")),
        ),
        Machine(
            name="rented",
            links=(Link(name="eth0", mac="52:54:00:aa:00:01", addresses=("10.0.0.50/32",)),),
            routes=("10.0.0.10/32 dev eth0", "default via 10.0.0.10 dev eth0"),
        ),
        guest("routed", 2, "10.10.101.2/24", via="10.10.101.1"),
        Machine(
            name="outside",
            links=OUTSIDE.links,
            routes=("10.10.101.0/24 via 10.0.0.10",),
        ),
    ),
    pings=(("rented", "10.0.0.9"), ("routed", "10.0.0.9"), ("rented", "10.10.101.2")),
    virtual={
        "routed": xml("routed", "virbr2", "10.10.101.1", "route").replace(
            "<ip ", "<dns enable='no'/><ip "
        )
    },
)

# A guest that is the router of others: it translates, forwards a port, and filters.
_ROUTER = Healthy(
    name="guest-router",
    machines=(
        Machine(
            name="host",
            links=(
                ENO1,
                bridge("virbr0", 0x20, "192.168.122.1/24"),
                bridge("br5", 0x25),
                tap(1, "virbr0", "router", "wan"),
                tap(2, "br5", "router", "lan"),
                tap(3, "br5", "inner1"),
                tap(4, "br5", "inner2"),
            ),
            routes=(UP,),
            sysctls=FORWARDING,
            rules=RULES,
        ),
        Machine(
            name="router",
            links=(
                Link(name="wan", mac="52:54:00:aa:00:01", addresses=("192.168.122.2/24",)),
                Link(name="lan", mac="52:54:00:aa:00:02", addresses=("172.20.0.1/24",)),
            ),
            routes=("default via 192.168.122.1 dev wan",),
            sysctls={**FORWARDING, **STRICT},
            rules="*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n"
            "-A INPUT -i lo -j ACCEPT\n-A INPUT -i lan -j ACCEPT\n"
            "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
            "-A INPUT -p icmp -m icmp --icmp-type 8 -j ACCEPT\n"
            "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
            "-A FORWARD -i lan -o wan -j ACCEPT\n"
            "-A FORWARD -i wan -o lan -m conntrack --ctstate DNAT -j ACCEPT\nCOMMIT\n"
            "*nat\n-A PREROUTING -i wan -p tcp -m tcp --dport 2222 -j DNAT"
            " --to-destination 172.20.0.11:22\n"
            "-A POSTROUTING -o wan -j MASQUERADE\nCOMMIT\n",
        ),
        guest("inner1", 3, "172.20.0.11/24", via="172.20.0.1"),
        guest("inner2", 4, "172.20.0.12/24", via="172.20.0.1"),
        OUTSIDE,
    ),
    pings=(("inner1", "10.0.0.9"), ("inner1", "172.20.0.12"), ("router", "10.0.0.9")),
    decoys=(
        Rules("host", "*filter\n-A FORWARD -s 172.20.0.0/24 -j DROP\nCOMMIT\n"),
        Ip("host", "route add 172.20.0.0/24 via 192.168.122.2\n"),
    ),
)

CASES = (_TWO_UPLINKS, _VPN, _PROXY, _ROUTER)
