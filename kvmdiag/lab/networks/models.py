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
from kvmdiag.lab.libvirt_rules import NatNetwork
from kvmdiag.lab.spec import Fault, Ip, Link, Machine, Network, Rules, Sysctls

_NAT = NatNetwork("virbr0", "192.168.122.0/24")
_ROUTED = NatNetwork("virbr2", "10.10.101.0/24")
_ENO1_MAC = "52:54:00:10:00:10"

_LET_IN = "FORWARD -d 192.168.122.2/32 -o virbr0 -p tcp -m tcp --dport 80 -j ACCEPT"
# The port forward that people write, with an accept rule in front of libvirt's.
_FORWARD = f"""\
*nat
-A PREROUTING -d 10.0.0.10/32 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 192.168.122.2:80
COMMIT
*filter
{_LET_IN.replace("FORWARD", "-I FORWARD 1", 1)}
COMMIT
"""


def _bridge(name: str, number: int, address: str) -> Link:
    mac = f"52:54:00:1e:07:{number:02x}"
    return Link(name=name, kind="bridge", mac=mac, addresses=(address,))


def _tap(name: str, number: int, bridge: str, guest: str) -> Link:
    mac = f"fe:54:00:aa:00:{number:02x}"
    return Link(name=name, mac=mac, master=bridge, peer=f"{guest}:ens3")


def _guest(name: str, number: int, address: str, gateway: str | None) -> Machine:
    mac = f"52:54:00:aa:00:{number:02x}"
    return Machine(
        name=name,
        links=(Link(name="ens3", mac=mac, addresses=(address,)),),
        routes=(f"default via {gateway} dev ens3",) if gateway else (),
    )


_HOST = Machine(
    name="host",
    links=(
        Link(name="eno1", mac=_ENO1_MAC, master="br0", peer="outside:port1"),
        Link(name="br0", kind="bridge", mac=_ENO1_MAC, addresses=("10.0.0.10/24",)),
        _bridge("virbr0", 0x20, "192.168.122.1/24"),
        _bridge("virbr1", 0x21, "192.168.100.1/24"),
        _bridge("virbr2", 0x22, "10.10.101.100/24"),
        _tap("vnet0", 1, "virbr1", "iso1"),
        _tap("vnet1", 2, "virbr1", "iso2"),
        _tap("vnet2", 3, "virbr2", "routed"),
        _tap("vnet3", 4, "virbr0", "web"),
        _tap("vnet4", 5, "br0", "lan"),
    ),
    routes=("default via 10.0.0.1 dev br0",),
    sysctls={"net.ipv4.ip_forward": "1"},
    rules=libvirt_rules.chains()
    + libvirt_rules.network_rules(_NAT)
    + libvirt_rules.isolated_rules("virbr1")
    + libvirt_rules.routed_rules(_ROUTED)
    + _FORWARD,
)

_OUTSIDE = (
    Machine(
        name="outside",
        links=(
            Link(
                name="lan0",
                kind="bridge",
                mac="52:54:00:10:00:01",
                addresses=("10.0.0.1/24", "10.0.0.9/24"),
            ),
            Link(name="port1", mac="52:54:00:10:00:02", master="lan0"),
            Link(name="port2", mac="52:54:00:10:00:03", master="lan0", peer="stranger:lan"),
        ),
        routes=("10.10.101.0/24 via 10.0.0.10",),
    ),
    Machine(
        name="stranger",
        links=(Link(name="lan", mac="52:54:00:10:00:08", addresses=("10.0.0.8/24",)),),
    ),
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

_FAULTS = (
    Fault(
        name="dnat-blocked-by-libvirt-reject",
        machine="host",
        summary="the port forward has no accept rule, and libvirt lets nothing new in",
        check="dnat-blocked-by-libvirt-reject",
        steps=(Rules("host", f"*filter\n-D {_LET_IN}\nCOMMIT\n"),),
        apart_from=("accept-rule-after-reject",),
    ),
    Fault(
        name="accept-rule-after-reject",
        machine="host",
        summary="libvirt was restarted: its rules are in front of the port forward's again",
        check="accept-rule-after-reject",
        steps=(Rules("host", f"*filter\n-D {_LET_IN}\n-A {_LET_IN}\nCOMMIT\n"),),
        apart_from=("dnat-blocked-by-libvirt-reject",),
    ),
    Fault(
        name="routed-net-no-return-route",
        machine="outside",
        summary="the router outside has no route to the routed network",
        check="routed-net-no-return-route",
        steps=(Ip("outside", "route del 10.10.101.0/24 via 10.0.0.10\n"),),
        apart_from=("routed-turned-into-nat",),
    ),
    Fault(
        name="masquerade-missing",
        machine="host",
        summary="the host no longer translates the addresses of network default",
        check="masquerade-missing",
        steps=(Rules("host", libvirt_rules.without_masquerade(_NAT)),),
    ),
    Fault(
        name="ip-forward-off",
        machine="host",
        summary="the host does not forward, neither translated nor routed",
        check="ip-forward-off",
        steps=(Sysctls("host", {"net.ipv4.ip_forward": "0"}),),
    ),
    Fault(
        name="bridge-uplink-missing",
        machine="host",
        summary="eno1 is no port of br0",
        check="bridge-uplink-missing",
        steps=(Ip("host", "link set eno1 nomaster\n"),),
    ),
    Fault(
        name="routed-turned-into-nat",
        machine="host",
        summary="the routed network is translated as well, by a rule made by hand",
        check=None,
        steps=(
            Rules(
                "host",
                "*nat\n-A POSTROUTING -s 10.10.101.0/24 ! -d 10.10.101.0/24 -j MASQUERADE\n"
                "COMMIT\n",
            ),
        ),
        apart_from=("routed-net-no-return-route",),
    ),
)

NETWORK = Network(
    name="models",
    summary="isolated, routed, NAT and bridged networks side by side, with a forwarded port",
    example="web 10.0.0.9",
    machines=(
        _HOST,
        _guest("iso1", 1, "192.168.100.11/24", None),
        _guest("iso2", 2, "192.168.100.12/24", None),
        _guest("routed", 3, "10.10.101.2/24", "10.10.101.100"),
        _guest("web", 4, "192.168.122.2/24", "192.168.122.1"),
        _guest("lan", 5, "10.0.0.50/24", "10.0.0.1"),
        *_OUTSIDE,
    ),
    faults=_FAULTS,
    hidden=("outside", "stranger"),
    virtual=_VIRTUAL,
)
