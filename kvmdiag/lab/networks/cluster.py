"""A cluster whose router is itself a guest: nested address translation.

    node1 ens6 -- vnet3 mybr0 vnet2 -- ens6 master ens3 -- vnet0 virbr0 host eno1 -- outside

master forwards for node1 and translates to its own address on libvirt's default network; the
host translates once more. Guests' taps are veth pairs here.
"""

from __future__ import annotations

from kvmdiag.lab import libvirt_rules
from kvmdiag.lab.faults import (
    decoy,
    fault,
    forward_policy_drop,
    forwarding_off,
    in_table,
    link_down,
    without_route,
)
from kvmdiag.lab.libvirt_rules import NatNetwork
from kvmdiag.lab.machines import FORWARDING, OUTSIDE, bridge, guest, host, nic, tap
from kvmdiag.lab.spec import Fault, Ip, Machine, Network, Rules, Step, Sysctls

_DEFAULT = NatNetwork("virbr0", "192.168.122.0/24")
_EMPTY = NatNetwork("virbr1", "192.168.123.0/24")
_VIRBR0_MAC = "52:54:00:1e:07:10"
MYBR0 = bridge("mybr0", "52:54:00:1e:07:48", "192.168.48.1/24")
SNAT = "POSTROUTING -s 192.168.48.0/24 -j SNAT --to-source 192.168.122.236"
"""The rule by which master translates the addresses of the cluster."""

_HOST = host(
    bridge("virbr0", _VIRBR0_MAC, "192.168.122.1/24"),
    MYBR0,
    tap("vnet0", "fe:54:00:68:f2:82", "virbr0", "master:ens3"),
    tap("vnet2", "fe:54:00:3c:9a:10", "mybr0", "master:ens6"),
    tap("vnet3", "fe:54:00:eb:6c:6a", "mybr0", "node1:ens6"),
    rules=libvirt_rules.chains() + libvirt_rules.network_rules(_DEFAULT),
)

_MASTER = Machine(
    name="master",
    links=(
        nic("ens3", "52:54:00:68:f2:82", "192.168.122.236/24"),
        nic("ens6", "52:54:00:3c:9a:10", "192.168.48.10/24"),
    ),
    routes=("default via 192.168.122.1 dev ens3",),
    sysctls=FORWARDING,
    rules=f"*nat\n-A POSTROUTING -m addrtype --src-type LOCAL -j ACCEPT\n-A {SNAT}\nCOMMIT\n",
)

_NODE1 = guest("node1", nic("ens6", "52:54:00:eb:6c:6a", "192.168.48.20/24"), "192.168.48.10")

FOR_ANY_GUESTS = (
    fault(
        "bridge-nf-forward-drop",
        "bridged frames pass through FORWARD, whose policy drops what mybr0 carries",
        Sysctls("host", {"net.bridge.bridge-nf-call-iptables": "1"}),
        forward_policy_drop("host"),
    ),
    fault("ip-forward-off@master", "the router guest does not forward", forwarding_off("master")),
    fault("ip-forward-off@host", "the host does not forward", forwarding_off("host")),
    fault(
        "per-iface-forwarding-off@host",
        "ip_forward is on, yet the host does not forward what virbr0 brings",
        forwarding_off("host", "virbr0"),
    ),
    fault(
        "per-iface-forwarding-off@master",
        "ip_forward is on, yet master does not forward what ens6 brings",
        forwarding_off("master", "ens6"),
    ),
    fault(
        "masquerade-missing@host",
        "the host no longer translates the addresses of libvirt's network",
        Rules("host", libvirt_rules.without_masquerade(_DEFAULT)),
    ),
    fault(
        "masquerade-missing@master",
        "master no longer translates the addresses of the cluster",
        in_table("master", "nat", f"-D {SNAT}"),
    ),
    fault(
        "guest-no-default-route@node1",
        "node1 has no default route",
        without_route("node1", "default via 192.168.48.10"),
    ),
    fault(
        "guest-no-default-route@master",
        "master has no default route",
        without_route("master", "default via 192.168.122.1"),
    ),
)
"""What goes wrong in the same way whether the guests are namespaces or virtual machines."""
TAP_DOWN = fault(
    "tap-admin-down", "node1's tap vnet3 is set down on the host", link_down("host", "vnet3")
)


# The default route of ens3 is used only by what asks for ens3.
_OPENED = Ip(
    "node1",
    "link set ens3 up\n"
    "address add 192.168.122.120/24 dev ens3\n"
    "route add default via 192.168.122.1 dev ens3 metric 100\n",
)


def _reverse_path(mode: str) -> Step:
    keys = ("all", "default", "ens3", "ens6")
    return Sysctls("node1", {f"net.ipv4.conf.{key}.rp_filter": mode for key in keys})


def multihomed(*plugged: Step) -> Fault:
    """What goes wrong with a second NIC of node1, which ``plugged`` gives it."""
    return fault(
        "guest-rp-filter-multihomed",
        "node1 has a second NIC, ens3, and drops the replies that arrive there",
        *plugged,
        _OPENED,
        _reverse_path("1"),
        machine="node1",
    )


def second_nic(*plugged: Step) -> Fault:
    """That NIC alone does no harm."""
    return decoy(
        "second-nic",
        "node1 has a second NIC, ens3, with a loose rp_filter",
        *plugged,
        _OPENED,
        _reverse_path("2"),
        machine="node1",
        apart_from=("guest-rp-filter-multihomed",),
    )


# Its ends have different numbers for the reason that carrier.py gives.
_SECOND_CABLE = Ip(
    "host",
    "link add name vnet1 index 98 address fe:54:00:78:70:ab type veth"
    " peer name ens3 index 99 address 52:54:00:78:70:ab netns {node1}\n"
    "link set vnet1 master virbr0 up\n",
)

_FAULTS = (
    *FOR_ANY_GUESTS,
    multihomed(_SECOND_CABLE),
    fault(
        "net-restart-orphan-taps",
        "virbr0 was deleted and made anew; vnet0 is no port of the new one",
        Ip(
            "host",
            "link del virbr0\n"
            f"link add name virbr0 address {_VIRBR0_MAC} type bridge\n"
            "address add 192.168.122.1/24 dev virbr0 broadcast +\n"
            "link set virbr0 up\n",
        ),
    ),
    TAP_DOWN,
    decoy(
        "decoys",
        "strict rp_filter, bridge-nf with accepting rules, a DROP policy that nothing"
        " reaches, an empty virbr1",
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
        Rules("host", libvirt_rules.network_rules(_EMPTY)),
        in_table("host", "filter", ":FORWARD DROP [0:0]", "-A FORWARD -i mybr0 -o mybr0 -j ACCEPT"),
        apart_from=("bridge-nf-forward-drop",),
    ),
    second_nic(_SECOND_CABLE),
)

NETWORK = Network(
    name="cluster",
    summary="two guests behind nested NAT: node1 reaches the world through guest master",
    example="node1 10.0.0.9",
    machines=(_HOST, _MASTER, _NODE1, OUTSIDE),
    faults=_FAULTS,
)
