"""The cluster whose router is itself a guest, with real guests.

    node1 ens6 -- vnet3 mybr0 vnet2 -- ens6 master ens3 -- vnet0 virbr0 host eno1 -- outside
    node1 ens3 -- vnet1 virbr0 (closed)

master translates with real netfilter and gives node1 its address and names with a dnsmasq of
its own; mybr0 was made by hand.
"""

from __future__ import annotations

from kvmdiag.lab import libvirt_rules
from kvmdiag.lab.libvirt_rules import NatNetwork
from kvmdiag.lab.real_networks import parts
from kvmdiag.lab.real_spec import RealGuest, RealNetwork, RealNic
from kvmdiag.lab.spec import Fault, Ip, Link, Network, Rules, Shell, Step, Sysctls

_BRIDGE = Link(name="mybr0", kind="bridge", mac="52:54:00:1e:07:48", addresses=("192.168.48.1/24",))
_DEFAULT = NatNetwork("virbr0", "192.168.122.0/24")
_MASTER_MAC = "52:54:00:68:f2:82"
_NODE1_MAC = "52:54:00:78:70:ab"
_SNAT = "POSTROUTING -s 192.168.48.0/24 -j SNAT --to-source 192.168.122.236"
_IP = "/usr/sbin/ip"

_MASTER_SETUP = f"""\
{_IP} link set ens6 up
{_IP} address add 192.168.48.10/24 broadcast + dev ens6
sysctl -qw net.ipv4.ip_forward=1
iptables -t nat -A POSTROUTING -m addrtype --src-type LOCAL -j ACCEPT
iptables -t nat -A {_SNAT}
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


def _reverse_path(mode: int) -> str:
    return "".join(
        f"sysctl -qw net.ipv4.conf.{key}.rp_filter={mode}\n"
        for key in ("all", "default", "ens3", "ens6")
    )


# node1's second NIC is opened, with a second default route for what asks for it alone.
_SECOND_NIC = f"""\
{_IP} link set ens3 up
{_IP} address add 192.168.122.120/24 dev ens3
{_IP} route add default via 192.168.122.1 dev ens3 metric 100
"""


def _fault(kind: str, machine: str, summary: str, *steps: Step | Shell) -> Fault:
    return Fault(
        name=f"{kind}@{machine}", machine=machine, summary=summary, check=kind, steps=steps
    )


_FAULTS = (
    Fault(
        name="bridge-nf-forward-drop",
        machine="host",
        summary="bridged frames pass through FORWARD, whose policy drops what mybr0 carries",
        check="bridge-nf-forward-drop",
        steps=(
            Sysctls("host", {"net.bridge.bridge-nf-call-iptables": "1"}),
            Rules("host", "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n"),
        ),
    ),
    _fault(
        "ip-forward-off",
        "master",
        "the router guest does not forward",
        Shell("master", "sysctl -qw net.ipv4.ip_forward=0"),
    ),
    _fault(
        "ip-forward-off",
        "host",
        "the host does not forward",
        Sysctls("host", {"net.ipv4.ip_forward": "0"}),
    ),
    _fault(
        "per-iface-forwarding-off",
        "host",
        "ip_forward is on, yet the host does not forward what virbr0 brings",
        Sysctls("host", {"net.ipv4.conf.virbr0.forwarding": "0"}),
    ),
    _fault(
        "per-iface-forwarding-off",
        "master",
        "ip_forward is on, yet master does not forward what ens6 brings",
        Shell("master", "sysctl -qw net.ipv4.conf.ens6.forwarding=0"),
    ),
    _fault(
        "masquerade-missing",
        "host",
        "the host no longer translates the addresses of libvirt's network",
        Rules("host", libvirt_rules.without_masquerade(_DEFAULT)),
    ),
    _fault(
        "masquerade-missing",
        "master",
        "master no longer translates the addresses of the cluster",
        Shell("master", f"iptables -t nat -D {_SNAT}"),
    ),
    _fault(
        "guest-no-default-route",
        "node1",
        "node1 has no default route",
        Shell("node1", f"{_IP} route del default"),
    ),
    _fault(
        "guest-no-default-route",
        "master",
        "master has no default route",
        Shell("master", f"{_IP} route del default"),
    ),
    Fault(
        name="guest-rp-filter-multihomed",
        machine="node1",
        summary="node1 has a second NIC, ens3, and drops the replies that arrive there",
        check="guest-rp-filter-multihomed",
        steps=(Shell("node1", _SECOND_NIC + _reverse_path(1)),),
        apart_from=("second-nic",),
    ),
    Fault(
        name="dns-single-label-resolved",
        machine="node1",
        summary="node1 has no search domain: names without a dot are not looked up",
        check="dns-single-label-resolved",
        steps=(Shell("node1", "echo nameserver 127.0.0.53 > /etc/resolv.conf"),),
    ),
    Fault(
        name="net-restart-orphan-taps",
        machine="host",
        summary="network default was stopped and started; vnet0 is no port of the new virbr0",
        check="net-restart-orphan-taps",
        steps=(Shell("host", "virsh net-destroy default\nvirsh net-start default"),),
    ),
    Fault(
        name="tap-admin-down",
        machine="host",
        summary="node1's tap vnet3 is set down on the host",
        check="tap-admin-down",
        steps=(Ip("host", "link set vnet3 down\n"),),
    ),
    Fault(
        name="second-nic",
        machine="node1",
        summary="node1 has a second NIC, ens3, with a loose rp_filter",
        check=None,
        steps=(Shell("node1", _SECOND_NIC + _reverse_path(2)),),
        apart_from=("guest-rp-filter-multihomed",),
    ),
)

REAL_NETWORK = RealNetwork(
    namespaces=Network(
        name="cluster",
        summary="a cluster whose router is itself a guest: nested address translation",
        example="node1 10.0.0.9",
        machines=(parts.host(_BRIDGE), parts.OUTSIDE),
        faults=_FAULTS,
    ),
    virtual={
        "default": parts.default(
            parts.reservation("master", _MASTER_MAC, "192.168.122.236"),
            parts.reservation("node1", _NODE1_MAC, "192.168.122.120"),
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
