"""A cluster whose router is itself a guest: nested address translation.

    node1 ens6 -- vnet3 mybr0 vnet2 -- ens6 master ens3 -- vnet0 virbr0 host eno1 -- outside

master forwards for node1 and translates to its own address on libvirt's default network; the
host translates once more. Guests' taps are veth pairs here.
"""

from __future__ import annotations

from kvmdiag.lab import libvirt_rules
from kvmdiag.lab.libvirt_rules import NatNetwork
from kvmdiag.lab.spec import Fault, Ip, Link, Machine, Network, Rules, Step, Sysctls

_DEFAULT = NatNetwork("virbr0", "192.168.122.0/24")
_EMPTY = NatNetwork("virbr1", "192.168.123.0/24")
_VIRBR0_MAC = "52:54:00:1e:07:10"
_SNAT = "POSTROUTING -s 192.168.48.0/24 -j SNAT --to-source 192.168.122.236"

_HOST = Machine(
    name="host",
    links=(
        Link(name="eno1", mac="52:54:00:10:00:10", addresses=("10.0.0.10/24",), peer="outside:lan"),
        Link(name="virbr0", kind="bridge", mac=_VIRBR0_MAC, addresses=("192.168.122.1/24",)),
        Link(name="mybr0", kind="bridge", mac="52:54:00:1e:07:48", addresses=("192.168.48.1/24",)),
        Link(name="vnet0", mac="fe:54:00:68:f2:82", master="virbr0", peer="master:ens3"),
        Link(name="vnet2", mac="fe:54:00:3c:9a:10", master="mybr0", peer="master:ens6"),
        Link(name="vnet3", mac="fe:54:00:eb:6c:6a", master="mybr0", peer="node1:ens6"),
    ),
    routes=("default via 10.0.0.1 dev eno1",),
    sysctls={"net.ipv4.ip_forward": "1"},
    rules=libvirt_rules.chains() + libvirt_rules.network_rules(_DEFAULT),
)

_MASTER = Machine(
    name="master",
    links=(
        Link(name="ens3", mac="52:54:00:68:f2:82", addresses=("192.168.122.236/24",)),
        Link(name="ens6", mac="52:54:00:3c:9a:10", addresses=("192.168.48.10/24",)),
    ),
    routes=("default via 192.168.122.1 dev ens3",),
    sysctls={"net.ipv4.ip_forward": "1"},
    rules=f"*nat\n-A POSTROUTING -m addrtype --src-type LOCAL -j ACCEPT\n-A {_SNAT}\nCOMMIT\n",
)

_NODE1 = Machine(
    name="node1",
    links=(Link(name="ens6", mac="52:54:00:eb:6c:6a", addresses=("192.168.48.20/24",)),),
    routes=("default via 192.168.48.10 dev ens6",),
)

_OUTSIDE = Machine(
    name="outside",
    links=(Link(name="lan", mac="52:54:00:10:00:09", addresses=("10.0.0.9/24", "10.0.0.1/24")),),
)

# node1's second NIC, with a second default route that is used only by what asks for ens3.
_SECOND_NIC: tuple[Step, ...] = (
    Ip(
        "host",
        "link add name vnet1 address fe:54:00:78:70:ab type veth"
        " peer name ens3 address 52:54:00:78:70:ab netns {node1}\n"
        "link set vnet1 master virbr0 up\n",
    ),
    Ip(
        "node1",
        "link set ens3 up\n"
        "address add 192.168.122.120/24 dev ens3\n"
        "route add default via 192.168.122.1 dev ens3 metric 100\n",
    ),
)


def _reverse_path(mode: str) -> Step:
    keys = ("all", "default", "ens3", "ens6")
    return Sysctls("node1", {f"net.ipv4.conf.{key}.rp_filter": mode for key in keys})


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
        apart_from=("decoys",),
    ),
    Fault(
        name="ip-forward-off@master",
        machine="master",
        summary="the router guest does not forward",
        check="ip-forward-off",
        steps=(Sysctls("master", {"net.ipv4.ip_forward": "0"}),),
    ),
    Fault(
        name="ip-forward-off@host",
        machine="host",
        summary="the host does not forward",
        check="ip-forward-off",
        steps=(Sysctls("host", {"net.ipv4.ip_forward": "0"}),),
    ),
    Fault(
        name="per-iface-forwarding-off@host",
        machine="host",
        summary="ip_forward is on, yet the host does not forward what virbr0 brings",
        check="per-iface-forwarding-off",
        steps=(Sysctls("host", {"net.ipv4.conf.virbr0.forwarding": "0"}),),
    ),
    Fault(
        name="per-iface-forwarding-off@master",
        machine="master",
        summary="ip_forward is on, yet master does not forward what ens6 brings",
        check="per-iface-forwarding-off",
        steps=(Sysctls("master", {"net.ipv4.conf.ens6.forwarding": "0"}),),
    ),
    Fault(
        name="masquerade-missing@host",
        machine="host",
        summary="the host no longer translates the addresses of libvirt's network",
        check="masquerade-missing",
        steps=(Rules("host", libvirt_rules.without_masquerade(_DEFAULT)),),
    ),
    Fault(
        name="masquerade-missing@master",
        machine="master",
        summary="master no longer translates the addresses of the cluster",
        check="masquerade-missing",
        steps=(Rules("master", f"*nat\n-D {_SNAT}\nCOMMIT\n"),),
    ),
    Fault(
        name="guest-no-default-route@node1",
        machine="node1",
        summary="node1 has no default route",
        check="guest-no-default-route",
        steps=(Ip("node1", "route del default via 192.168.48.10\n"),),
    ),
    Fault(
        name="guest-no-default-route@master",
        machine="master",
        summary="master has no default route",
        check="guest-no-default-route",
        steps=(Ip("master", "route del default via 192.168.122.1\n"),),
    ),
    Fault(
        name="guest-rp-filter-multihomed",
        machine="node1",
        summary="node1 has a second NIC, ens3, and drops the replies that arrive there",
        check="guest-rp-filter-multihomed",
        steps=(*_SECOND_NIC, _reverse_path("1")),
        apart_from=("second-nic",),
    ),
    Fault(
        name="net-restart-orphan-taps",
        machine="host",
        summary="virbr0 was deleted and made anew; vnet0 is no port of the new one",
        check="net-restart-orphan-taps",
        steps=(
            Ip(
                "host",
                "link del virbr0\n"
                f"link add name virbr0 address {_VIRBR0_MAC} type bridge\n"
                "address add 192.168.122.1/24 dev virbr0 broadcast +\n"
                "link set virbr0 up\n",
            ),
        ),
    ),
    Fault(
        name="tap-admin-down",
        machine="host",
        summary="node1's tap vnet3 is set down on the host",
        check="tap-admin-down",
        steps=(Ip("host", "link set vnet3 down\n"),),
    ),
    Fault(
        name="decoys",
        machine="host",
        summary="strict rp_filter, bridge-nf with accepting rules, a DROP policy that nothing"
        " reaches, an empty virbr1",
        check=None,
        steps=(
            Sysctls(
                "host",
                {
                    "net.ipv4.conf.all.rp_filter": "1",
                    "net.bridge.bridge-nf-call-iptables": "1",
                },
            ),
            Ip(
                "host",
                "link add name virbr1 address 52:54:00:1e:07:11 type bridge\n"
                "address add 192.168.123.1/24 dev virbr1 broadcast +\n"
                "link set virbr1 up\n",
            ),
            Rules(
                "host",
                libvirt_rules.network_rules(_EMPTY)
                + "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -i mybr0 -o mybr0 -j ACCEPT\nCOMMIT\n",
            ),
        ),
        apart_from=("bridge-nf-forward-drop",),
    ),
    Fault(
        name="second-nic",
        machine="node1",
        summary="node1 has a second NIC, ens3, with a loose rp_filter",
        check=None,
        steps=(*_SECOND_NIC, _reverse_path("2")),
        apart_from=("guest-rp-filter-multihomed",),
    ),
)

NETWORK = Network(
    name="cluster",
    summary="two guests behind nested NAT: node1 reaches the world through guest master",
    example="node1 10.0.0.9",
    machines=(_HOST, _MASTER, _NODE1, _OUTSIDE),
    faults=_FAULTS,
)
