"""The cluster whose router is itself a guest, with real guests.

    node1 ens6 -- vnet3 mybr0 vnet2 -- ens6 master ens3 -- vnet0 virbr0 host eno1 -- outside
    node1 ens3 -- vnet1 virbr0 (closed)

master translates with real netfilter and gives node1 its address and names with a dnsmasq of
its own; mybr0 was made by hand.
"""

from __future__ import annotations

from kvmdiag.lab.faults import fault
from kvmdiag.lab.machines import OUTSIDE, host
from kvmdiag.lab.networks.cluster import (
    FOR_ANY_GUESTS,
    MYBR0,
    SNAT,
    TAP_DOWN,
    multihomed,
    second_nic,
)
from kvmdiag.lab.real_networks import parts
from kvmdiag.lab.real_spec import IP, RealGuest, RealNetwork, RealNic
from kvmdiag.lab.spec import Network, Shell

_MASTER_MAC = "52:54:00:68:f2:82"
_NODE1_MAC = "52:54:00:78:70:ab"

_MASTER_SETUP = f"""\
{IP} link set ens6 up
{IP} address add 192.168.48.10/24 broadcast + dev ens6
sysctl -qw net.ipv4.ip_forward=1
iptables -t nat -A POSTROUTING -m addrtype --src-type LOCAL -j ACCEPT
iptables -t nat -A {SNAT}
cat > /etc/dnsmasq.conf <<END
interface=ens6
bind-interfaces
except-interface=lo
dhcp-range=192.168.48.11,192.168.48.127,12h
dhcp-host=52:54:00:eb:6c:6a,node1,192.168.48.20
dhcp-option=option:router,192.168.48.10
domain=test.cluster
expand-hosts
dhcp-leasefile=/run/leases
END
echo "192.168.48.10 master" >> /etc/hosts
/usr/sbin/dnsmasq -C /etc/dnsmasq.conf
"""


_FAULTS = (
    *FOR_ANY_GUESTS,
    multihomed(),
    fault(
        "dns-single-label-resolved",
        "node1 has no search domain: names without a dot are not looked up",
        Shell("node1", "echo nameserver 127.0.0.53 > /etc/resolv.conf"),
    ),
    fault(
        "net-restart-orphan-taps",
        "network default was stopped and started; vnet0 is no port of the new virbr0",
        Shell("host", parts.RESTART_DEFAULT),
    ),
    TAP_DOWN,
    second_nic(),
)

REAL_NETWORK = RealNetwork(
    namespaces=Network(
        name="cluster",
        summary="a cluster whose router is itself a guest: nested address translation",
        example="node1 10.0.0.9",
        machines=(host(MYBR0), OUTSIDE),
        faults=_FAULTS,
    ),
    virtual={
        "default": parts.default(
            parts.Lease("master", _MASTER_MAC, "192.168.122.236"),
            parts.Lease("node1", _NODE1_MAC, "192.168.122.120"),
        )
    },
    guests=(
        RealGuest(
            name="master",
            nics=(
                RealNic(name="ens3", mac=_MASTER_MAC, network="default"),
                RealNic(name="ens6", mac="52:54:00:3c:9a:10", bridge="mybr0", by_hand=True),
            ),
            setup=_MASTER_SETUP + parts.dhcp("master", "ens3"),
        ),
        RealGuest(
            name="node1",
            nics=(
                RealNic(name="ens3", mac=_NODE1_MAC, network="default", idle=True),
                RealNic(name="ens6", mac="52:54:00:eb:6c:6a", bridge="mybr0", by_hand=True),
            ),
            setup=parts.dhcp("node1", "ens6"),
        ),
    ),
)
