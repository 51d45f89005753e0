"""The models of a network side by side on a real libvirt: none, routed, NAT, open and bridged.

    iso     -- virbr1           (isolated: no way out)
    routed  -- virbr2           (known to the router outside by a route to this host)
    web     -- virbr0           (network default, translated; it serves HTTP)
    opened  -- virbr3           (forwarded without any rule of libvirt's; known outside too)
    lan     -- br0 -- eno1      (part of the LAN)

On the LAN are ``outside``, the router, which knows the way back, and ``stranger``, which does not.
"""

from __future__ import annotations

from kvmdiag.lab import libvirt_rules
from kvmdiag.lab.libvirt_rules import NatNetwork
from kvmdiag.lab.real_networks import parts
from kvmdiag.lab.real_spec import RealGuest, RealNetwork, RealNic
from kvmdiag.lab.spec import Fault, Ip, Link, Machine, Network, Rules, Shell, Sysctls

_ENO1_MAC = "52:54:00:10:00:10"
_WEB = ("web", "52:54:00:aa:00:04", "192.168.122.2")
_ISO = ("iso", "52:54:00:aa:00:01", "192.168.100.11")
_ROUTED = ("routed", "52:54:00:aa:00:03", "10.10.101.2")
_OPENED = ("opened", "52:54:00:aa:00:06", "10.10.102.2")
_LAN_MAC = "52:54:00:aa:00:05"
_IP = "/usr/sbin/ip"

_HOST = Machine(
    name="host",
    links=(
        Link(name="eno1", mac=_ENO1_MAC, master="br0", peer="outside:port1"),
        Link(name="br0", kind="bridge", mac=_ENO1_MAC, addresses=("10.0.0.10/24",)),
    ),
    routes=("default via 10.0.0.1 dev br0",),
    sysctls={"net.ipv4.ip_forward": "1"},
)
_BEYOND = (
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
        routes=("10.10.101.0/24 via 10.0.0.10", "10.10.102.0/24 via 10.0.0.10"),
    ),
    Machine(
        name="stranger",
        links=(Link(name="lan", mac="52:54:00:10:00:08", addresses=("10.0.0.8/24",)),),
    ),
)


def _network(name: str, bridge: str, mode: str | None, gateway: str, guest: tuple[str, ...]) -> str:
    """A network of libvirt's with DHCP for one guest."""
    forward = f"<forward mode='{mode}'/>" if mode else ""
    prefix = gateway.rpartition(".")[0]
    return f"""
<network>
  <name>{name}</name>{forward}
  <bridge name='{bridge}' stp='on' delay='0'/>
  <ip address='{gateway}' netmask='255.255.255.0'>
    <dhcp><range start='{prefix}.2' end='{prefix}.99'/>{parts.reservation(*guest)}</dhcp>
  </ip>
</network>"""


def _guest(name: str, mac: str, network: str, setup: str = "") -> RealGuest:
    nic = RealNic(name="ens3", mac=mac, network=network)
    return RealGuest(name=name, nics=(nic,), setup=parts.dhcp(name, "ens3") + setup)


_LET_IN = "-d 192.168.122.2/32 -o virbr0 -p tcp -m tcp --dport 80 -j ACCEPT"
_TRANSLATE = """\
*nat
-A PREROUTING -d 10.0.0.10/32 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 192.168.122.2:80
COMMIT
"""
# It writes its rules while it already answers.
_IN_FRONT_AGAIN = """\
while iptables -S LIBVIRT_FWI 1 2> /dev/null | grep -q 'dport 80 '; do sleep 0.2; done
until iptables -S LIBVIRT_FWI 2> /dev/null | grep -q 'virbr0 -j REJECT'; do sleep 0.2; done
"""
_INTO_NAT = """\
*nat
-A POSTROUTING -s 10.10.101.0/24 ! -d 10.10.101.0/24 -j MASQUERADE
COMMIT
*filter
-I FORWARD 1 -d 10.10.101.0/24 -o virbr2 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
"""

_FAULTS = (
    Fault(
        name="dnat-blocked-by-libvirt-reject",
        machine="host",
        summary="port 8080 is forwarded to web, and libvirt lets nothing new in",
        check="dnat-blocked-by-libvirt-reject",
        steps=(Rules("host", _TRANSLATE),),
        apart_from=("accept-rule-after-reject", "libvirtd-restarted"),
    ),
    Fault(
        name="accept-rule-after-reject",
        machine="host",
        summary="a forwarded port was let in by a rule in libvirt's chain; libvirtd was restarted",
        check="accept-rule-after-reject",
        steps=(
            Rules("host", _TRANSLATE),
            Rules("host", f"*filter\n-I LIBVIRT_FWI 1 {_LET_IN}\nCOMMIT\n"),
            Shell("host", parts.RESTART_LIBVIRT + _IN_FRONT_AGAIN),
        ),
        apart_from=("dnat-blocked-by-libvirt-reject", "libvirtd-restarted"),
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
        steps=(
            Rules(
                "host",
                libvirt_rules.without_masquerade(NatNetwork("virbr0", "192.168.122.0/24")),
            ),
        ),
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
    # Since 5.1 libvirt has chains of its own and leaves the jumps to them where they are.
    Fault(
        name="libvirtd-restarted",
        machine="host",
        summary="port 8080 is forwarded to web and let in; then libvirtd was restarted",
        check=None,
        steps=(
            Rules("host", _TRANSLATE),
            Rules("host", f"*filter\n-I FORWARD 1 {_LET_IN}\nCOMMIT\n"),
            Shell("host", parts.RESTART_LIBVIRT),
        ),
        apart_from=("dnat-blocked-by-libvirt-reject", "accept-rule-after-reject"),
    ),
    Fault(
        name="routed-turned-into-nat",
        machine="host",
        summary="the routed network is translated as well, by rules made by hand",
        check=None,
        steps=(Rules("host", _INTO_NAT),),
        apart_from=("routed-net-no-return-route",),
    ),
)

REAL_NETWORK = RealNetwork(
    namespaces=Network(
        name="models",
        summary="isolated, routed, NAT, open and bridged networks side by side",
        example="web 10.0.0.9",
        machines=(_HOST, *_BEYOND),
        faults=_FAULTS,
        hidden=("outside", "stranger"),
    ),
    virtual={
        "default": _network("default", "virbr0", "nat", "192.168.122.1", _WEB),
        "isolated": _network("isolated", "virbr1", None, "192.168.100.1", _ISO),
        "routed": _network("routed", "virbr2", "route", "10.10.101.100", _ROUTED),
        "open": _network("open", "virbr3", "open", "10.10.102.100", _OPENED),
    },
    guests=(
        _guest(_ISO[0], _ISO[1], "isolated"),
        _guest(_ROUTED[0], _ROUTED[1], "routed"),
        _guest(
            _WEB[0],
            _WEB[1],
            "default",
            "mkdir -p /run/www; echo hello > /run/www/index.html; httpd -p 80 -h /run/www\n",
        ),
        _guest(_OPENED[0], _OPENED[1], "open"),
        RealGuest(
            name="lan",
            nics=(RealNic(name="ens3", mac=_LAN_MAC, bridge="br0"),),
            setup=f"{_IP} link set ens3 up\n{_IP} address add 10.0.0.50/24 broadcast + dev ens3\n"
            f"{_IP} route add default via 10.0.0.1\n",
        ),
    ),
)
