"""The four models of a network side by side: isolated, routed, with NAT, and bridged.

    iso1, iso2 -- virbr1           (no way out)
    routed     -- virbr2           (known to the router outside by a route to this host)
    web        -- virbr0           (translated; port 8080 of the host is forwarded to it)
    lan        -- br0 -- eno1      (part of the LAN)

On the LAN are ``outside``, the router, which knows the way back to the routed network, and
``stranger``, which does not. libvirt's files tell which model each bridge is meant to be.
"""

from __future__ import annotations

from kvmdiag.lab import libvirt_rules
from kvmdiag.lab.faults import decoy, fault, forwarding_off, in_table, without_route
from kvmdiag.lab.libvirt_rules import NatNetwork
from kvmdiag.lab.machines import FORWARDING, bridge, guest, nic, tap
from kvmdiag.lab.spec import Ip, Link, Machine, Network, Rules

_NAT = NatNetwork("virbr0", "192.168.122.0/24")
_ROUTED = NatNetwork("virbr2", "10.10.101.0/24")
_ENO1_MAC = "52:54:00:10:00:10"

TRANSLATE = (
    "PREROUTING -d 10.0.0.10/32 -p tcp -m tcp --dport 8080"
    " -j DNAT --to-destination 192.168.122.2:80"
)
LET_IN = "-d 192.168.122.2/32 -o virbr0 -p tcp -m tcp --dport 80 -j ACCEPT"
# The port forward that people write, with an accept rule in front of libvirt's.
_FORWARD = f"""\
*nat
-A {TRANSLATE}
COMMIT
*filter
-I FORWARD 1 {LET_IN}
COMMIT
"""
INTO_NAT = in_table(
    "host", "nat", "-A POSTROUTING -s 10.10.101.0/24 ! -d 10.10.101.0/24 -j MASQUERADE"
)

BRIDGED_UPLINK = (
    Link(name="eno1", mac=_ENO1_MAC, master="br0", peer="outside:port1"),
    bridge("br0", _ENO1_MAC, "10.0.0.10/24"),
)
"""The host's NIC is a port of br0, which has its address."""
UP = "default via 10.0.0.1 dev br0"
LAN = guest("lan", nic("ens3", "52:54:00:aa:00:05", "10.0.0.50/24"), "10.0.0.1")

_HOST = Machine(
    name="host",
    links=(
        *BRIDGED_UPLINK,
        bridge("virbr0", "52:54:00:1e:07:20", "192.168.122.1/24"),
        bridge("virbr1", "52:54:00:1e:07:21", "192.168.100.1/24"),
        bridge("virbr2", "52:54:00:1e:07:22", "10.10.101.100/24"),
        tap("vnet0", "fe:54:00:aa:00:01", "virbr1", "iso1:ens3"),
        tap("vnet1", "fe:54:00:aa:00:02", "virbr1", "iso2:ens3"),
        tap("vnet2", "fe:54:00:aa:00:03", "virbr2", "routed:ens3"),
        tap("vnet3", "fe:54:00:aa:00:04", "virbr0", "web:ens3"),
        tap("vnet4", "fe:54:00:aa:00:05", "br0", "lan:ens3"),
    ),
    routes=(UP,),
    sysctls=FORWARDING,
    rules=libvirt_rules.chains()
    + libvirt_rules.network_rules(_NAT)
    + libvirt_rules.isolated_rules("virbr1")
    + libvirt_rules.routed_rules(_ROUTED)
    + _FORWARD,
)


def beyond(*routes: str) -> tuple[Machine, Machine]:
    """The LAN: ``outside``, the router, which knows these routes, and ``stranger``."""
    return (
        Machine(
            name="outside",
            links=(
                bridge("lan0", "52:54:00:10:00:01", "10.0.0.1/24", "10.0.0.9/24"),
                Link(name="port1", mac="52:54:00:10:00:02", master="lan0"),
                tap("port2", "52:54:00:10:00:03", "lan0", "stranger:lan"),
            ),
            routes=routes,
        ),
        guest("stranger", nic("lan", "52:54:00:10:00:08", "10.0.0.8/24")),
    )


def _network_xml(name: str, bridge: str, forward: str, address: str) -> str:
    return (
        f"<network><name>{name}</name>{forward}<bridge name='{bridge}'/>"
        "<dns enable='no'/>"
        f"<ip address='{address}' netmask='255.255.255.0'/></network>"
    )


_VIRTUAL = {
    "default": _network_xml("default", "virbr0", "<forward mode='nat'/>", "192.168.122.1"),
    "isolated": _network_xml("isolated", "virbr1", "", "192.168.100.1"),
    "routed": _network_xml("routed", "virbr2", "<forward mode='route'/>", "10.10.101.100"),
}

FOR_ANY_GUESTS = (
    fault(
        "routed-net-no-return-route",
        "the router outside has no route to the routed network",
        without_route("outside", "10.10.101.0/24 via 10.0.0.10"),
    ),
    fault(
        "masquerade-missing",
        "the host no longer translates the addresses of network default",
        Rules("host", libvirt_rules.without_masquerade(_NAT)),
    ),
    fault(
        "ip-forward-off",
        "the host does not forward, neither translated nor routed",
        forwarding_off("host"),
    ),
    fault(
        "bridge-uplink-missing", "eno1 is no port of br0", Ip("host", "link set eno1 nomaster\n")
    ),
)
"""What goes wrong in the same way whether the guests are namespaces or virtual machines."""

_FAULTS = (
    fault(
        "dnat-blocked-by-libvirt-reject",
        "the port forward has no accept rule, and libvirt lets nothing new in",
        in_table("host", "filter", f"-D FORWARD {LET_IN}"),
    ),
    fault(
        "accept-rule-after-reject",
        "libvirt was restarted: its rules are in front of the port forward's again",
        in_table("host", "filter", f"-D FORWARD {LET_IN}", f"-A FORWARD {LET_IN}"),
        apart_from=("dnat-blocked-by-libvirt-reject",),
    ),
    *FOR_ANY_GUESTS,
    decoy(
        "routed-turned-into-nat",
        "the routed network is translated as well, by a rule made by hand",
        INTO_NAT,
        apart_from=("routed-net-no-return-route",),
    ),
)

NETWORK = Network(
    name="models",
    summary="isolated, routed, NAT and bridged networks side by side, with a forwarded port",
    example="web 10.0.0.9",
    machines=(
        _HOST,
        guest("iso1", nic("ens3", "52:54:00:aa:00:01", "192.168.100.11/24")),
        guest("iso2", nic("ens3", "52:54:00:aa:00:02", "192.168.100.12/24")),
        guest("routed", nic("ens3", "52:54:00:aa:00:03", "10.10.101.2/24"), "10.10.101.100"),
        guest("web", nic("ens3", "52:54:00:aa:00:04", "192.168.122.2/24"), "192.168.122.1"),
        LAN,
        *beyond("10.10.101.0/24 via 10.0.0.10"),
    ),
    faults=_FAULTS,
    hidden=("outside", "stranger"),
    virtual=_VIRTUAL,
)
