"""Bridges, taps and neighbours that look odd: isolation that is meant, and plain clutter."""

from kvmdiag.lab import libvirt_rules
from kvmdiag.lab.libvirt_rules import NatNetwork
from kvmdiag.lab.spec import Ip, Link, Machine, Rules, Sysctls

from .nat_network import GUESTS, RULES, SERVER, VIRTUAL
from .parts import (
    BRIDGE_NF,
    ENO1,
    FORWARDING,
    OUTSIDE,
    STRICT,
    UP,
    Healthy,
    bridge,
    dhcp,
    dnsmasq,
    guest,
    tap,
    xml,
)

_LAN_MAC = "52:54:00:10:00:10"

# A LAN bridge whose frames meet iptables; STP off, with the kernel's default delay.
_LAN = Healthy(
    name="lan-bridge-with-netfilter",
    machines=(
        Machine(
            name="host",
            links=(
                Link(name="eno1", mac=_LAN_MAC, master="br0", peer="outside:lan"),
                Link(name="br0", kind="bridge", mac=_LAN_MAC, addresses=("10.0.0.10/24",)),
                tap(1, "br0", "vm1"),
                tap(2, "br0", "vm2"),
            ),
            routes=("default via 10.0.0.1 dev br0",),
            sysctls={**BRIDGE_NF, **STRICT},
            rules="*filter\n:FORWARD DROP [0:0]\n:INPUT DROP [0:0]\n"
            "-A INPUT -i lo -j ACCEPT\n"
            "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"
            "-A INPUT -p icmp -j ACCEPT\n"
            "-A FORWARD -m physdev --physdev-is-bridged -j ACCEPT\nCOMMIT\n",
        ),
        guest("vm1", 1, "10.0.0.51/24", via="10.0.0.1"),
        guest("vm2", 2, "10.0.0.52/24", via="10.0.0.1"),
        OUTSIDE,
    ),
    pings=(("vm1", "10.0.0.9"), ("vm1", "10.0.0.52"), ("vm1", "10.0.0.10"), ("host", "10.0.0.9")),
    decoys=(
        Ip(
            "host",
            "link set br0 type bridge stp_state 0 forward_delay 1500\n"
            "link set br0 type bridge mcast_snooping 1\n",
        ),
    ),
)

# No way out, on purpose: by libvirt's word, by a bridge without an address, by isolated ports.
_ISOLATED = Healthy(
    name="isolated-on-purpose",
    machines=(
        Machine(
            name="host",
            links=(
                ENO1,
                bridge("virbr1", 0x21, "192.168.100.1/24"),
                bridge("br9", 0x29),
                bridge("virbr2", 0x22, "192.168.101.1/24"),
                tap(1, "virbr1", "iso1"),
                tap(2, "virbr1", "iso2"),
                tap(3, "br9", "mute1"),
                tap(4, "br9", "mute2"),
                tap(5, "virbr2", "apart1"),
                tap(6, "virbr2", "apart2"),
            ),
            routes=(UP,),
            sysctls={**FORWARDING, **BRIDGE_NF},
            rules=libvirt_rules.chains()
            + libvirt_rules.isolated_rules("virbr1")
            + libvirt_rules.network_rules(NatNetwork("virbr2", "192.168.101.0/24")),
        ),
        guest("iso1", 1, "192.168.100.11/24"),
        guest("iso2", 2, "192.168.100.12/24"),
        guest("mute1", 3, "172.30.0.1/24"),
        guest("mute2", 4, "172.30.0.2/24"),
        guest("apart1", 5, "192.168.101.11/24", via="192.168.101.1"),
        guest("apart2", 6, "192.168.101.12/24", via="192.168.101.1"),
        OUTSIDE,
    ),
    pings=(("iso1", "192.168.100.12"), ("mute1", "172.30.0.2"), ("apart1", "10.0.0.9")),
    silent=(("iso1", "10.0.0.9"), ("apart1", "192.168.101.12")),
    commands=(
        ("host", "bridge link set dev vnet5 isolated on"),
        ("host", "bridge link set dev vnet6 isolated on"),
    ),
    services=(("host", dnsmasq("virbr1", "192.168.100.1", "192.168.100.2", "192.168.100.99")),),
    virtual={
        "isolated": xml(
            "isolated", "virbr1", "192.168.100.1", inner=dhcp("192.168.100.2", "192.168.100.99")
        ),
        "apart": xml("apart", "virbr2", "192.168.101.1", "nat").replace(
            "<ip ", "<dns enable='no'/><port isolated='yes'/><ip "
        ),
    },
)

# A guest on a macvlan of the uplink's: it reaches the LAN and, by design, not its own host.
_MACVLAN = Healthy(
    name="macvlan-on-the-uplink",
    machines=(
        Machine(name="host", links=(ENO1,), routes=(UP,)),
        Machine(name="vm1", links=()),
        Machine(name="vm2", links=()),
        OUTSIDE,
    ),
    pings=(("vm1", "10.0.0.9"), ("vm1", "10.0.0.52")),
    silent=(("vm1", "10.0.0.10"),),
    decoys=(
        Ip(
            "host",
            "link add mv1 link eno1 address 52:54:00:aa:00:01 type macvlan mode bridge\n"
            "link set mv1 netns {vm1} name eth0\n"
            "link add mv2 link eno1 address 52:54:00:aa:00:02 type macvlan mode bridge\n"
            "link set mv2 netns {vm2} name eth0\n",
        ),
        Ip(
            "vm1",
            "addr add 10.0.0.51/24 dev eth0\nlink set eth0 up\nroute add default via 10.0.0.1\n",
        ),
        Ip(
            "vm2",
            "addr add 10.0.0.52/24 dev eth0\nlink set eth0 up\nroute add default via 10.0.0.1\n",
        ),
    ),
)

_OFF = (
    "<domain type='kvm'><name>sleeper</name><memory>1024</memory><os><type>hvm</type></os>"
    "<devices><interface type='network'><mac address='52:54:00:aa:00:11'/>"
    "<source network='default'/></interface>"
    "<interface type='bridge'><mac address='52:54:00:aa:00:77'/><source bridge='br88'/>"
    "</interface></devices></domain>"
)

# What a host collects over the years: stale and failed neighbours, taps that nobody holds, NICs
# that are down, bridges without ports, a clone that is shut off, rejects that nothing meets.
_CLUTTER = Healthy(
    name="clutter",
    machines=(
        Machine(
            name="host",
            links=(
                ENO1,
                bridge("virbr0", 0x20, "192.168.122.1/24"),
                bridge("virbr7", 0x27, "192.168.127.1/24"),
                tap(1, "virbr0", "vm1"),
                tap(2, "virbr0", "vm2"),
            ),
            routes=(UP,),
            sysctls=FORWARDING,
            rules=RULES + libvirt_rules.network_rules(NatNetwork("virbr7", "192.168.127.0/24")),
        ),
        *GUESTS,
        OUTSIDE,
    ),
    pings=(("vm1", "10.0.0.9"), ("vm1", "192.168.122.12")),
    decoys=(
        Ip(
            "host",
            "neigh replace 192.168.122.11 lladdr 52:54:00:aa:00:01 dev virbr0 nud stale\n"
            "neigh replace 192.168.122.12 lladdr 52:54:00:aa:00:02 dev virbr0 nud permanent\n"
            "neigh replace 192.168.122.77 dev virbr0 nud failed\n"
            "neigh replace 10.0.0.99 lladdr 52:54:00:99:99:99 dev eno1 nud permanent\n"
            "link add spare0 type veth peer name spare1\n"
            "link set spare0 mtu 9000\n"
            "tuntap add dev vnet9 mode tap\n"
            "link set vnet9 master virbr7 up\n"
            "link add br88 type bridge\n"
            "link set br88 up\n"
            "link add ifb9 type ifb\n"
            "route add 10.77.0.0/16 via 10.0.0.77 metric 500\n"
            "route add blackhole 10.99.0.0/16 metric 4000\n"
            "route add 203.0.113.128/25 dev eno1\n"
            "route add 198.51.100.7/32 via 10.0.0.1 src 192.168.122.1\n",
        ),
        Ip("vm1", "link set eth0 mtu 1400\n"),
        Rules(
            "host",
            "*filter\n"
            "-A FORWARD -s 203.0.113.0/24 -j REJECT\n"
            "-A FORWARD -i wlan0 -j DROP\n"
            "-A FORWARD -p tcp -m tcp --dport 25 -j REJECT --reject-with tcp-reset\n"
            "-A FORWARD -m conntrack --ctstate INVALID -j DROP\n"
            "-A INPUT -p tcp -m tcp --dport 3306 ! -i lo -j DROP\n"
            "COMMIT\n"
            "*nat\n-A POSTROUTING -s 192.168.200.0/24 -o wlan0 -j MASQUERADE\nCOMMIT\n"
            "*raw\n-A PREROUTING -p udp -m udp --dport 4789 -j CT --notrack\nCOMMIT\n",
        ),
        Sysctls("host", {"net.ipv4.conf.all.log_martians": "1", **STRICT}),
    ),
    services=SERVER,
    virtual={
        **VIRTUAL,
        "empty": xml("empty", "virbr7", "192.168.127.1", "nat").replace(
            "<ip ", "<dns enable='no'/><ip "
        ),
    },
    domains={"sleeper": _OFF},
)

CASES = (_LAN, _ISOLATED, _MACVLAN, _CLUTTER)
