"""The practice networks with real guests."""

from __future__ import annotations

from kvmdiag.lab.real_spec import RealGuest, RealNetwork, RealNic
from kvmdiag.lab.spec import Link, Machine, Network

_UPLINK = Link(
    name="eno1", mac="52:54:00:10:00:10", addresses=("10.0.0.10/24",), peer="outside:lan"
)
_OUTSIDE = Machine(
    name="outside",
    links=(Link(name="lan", mac="52:54:00:10:00:09", addresses=("10.0.0.9/24", "10.0.0.1/24")),),
)
_BRIDGE = Link(name="mybr0", kind="bridge", mac="52:54:00:1e:07:48", addresses=("192.168.48.1/24",))


def _host(*links: Link) -> Machine:
    return Machine(
        name="host",
        links=(_UPLINK, *links),
        routes=("default via 10.0.0.1 dev eno1",),
        sysctls={"net.ipv4.ip_forward": "1"},
    )


def _default(*hosts: str) -> str:
    """The default network as libvirt ships it; ``hosts`` are reservations of its DHCP."""
    return f"""
<network>
  <name>default</name>
  <forward mode='nat'/>
  <bridge name='virbr0' stp='on' delay='0'/>
  <ip address='192.168.122.1' netmask='255.255.255.0'>
    <dhcp><range start='192.168.122.2' end='192.168.122.254'/>{"".join(hosts)}</dhcp>
  </ip>
</network>"""


def _dhcp(name: str, nic: str) -> str:
    """Ask for an address until there is one."""
    return (
        f"/usr/sbin/ip link set {nic} up\n"
        f"udhcpc -i {nic} -s /etc/dhcp -x hostname:{name} -t 10 -T 1 -A 1 -b > /run/dhcp 2>&1\n"
    )


def _reservation(name: str, mac: str, address: str) -> str:
    return f"<host mac='{mac}' name='{name}' ip='{address}'/>"


_MASTER_MAC = "52:54:00:68:f2:82"
_MASTER_SETUP = """\
/usr/sbin/ip link set ens6 up
/usr/sbin/ip address add 192.168.48.10/24 broadcast + dev ens6
sysctl -qw net.ipv4.ip_forward=1
iptables -t nat -A POSTROUTING -m addrtype --src-type LOCAL -j ACCEPT
iptables -t nat -A POSTROUTING -s 192.168.48.0/24 -j SNAT --to-source 192.168.122.236
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

_CLUSTER = RealNetwork(
    namespaces=Network(
        name="cluster",
        summary="a cluster whose router is itself a guest: nested address translation",
        example="node1 10.0.0.9",
        machines=(_host(_BRIDGE), _OUTSIDE),
        faults=(),
    ),
    virtual={"default": _default(_reservation("master", _MASTER_MAC, "192.168.122.236"))},
    guests=(
        RealGuest(
            name="master",
            nics=(
                RealNic(name="ens3", mac=_MASTER_MAC, network="default"),
                RealNic(name="ens6", mac="52:54:00:3c:9a:10", bridge="mybr0"),
            ),
            setup=_MASTER_SETUP + _dhcp("master", "ens3"),
        ),
        RealGuest(
            name="node1",
            nics=(RealNic(name="ens6", mac="52:54:00:eb:6c:6a", bridge="mybr0"),),
            setup=_dhcp("node1", "ens6"),
        ),
    ),
)

_LIBVIRT_NAT = RealNetwork(
    namespaces=Network(
        name="libvirt-nat",
        summary="libvirt's default network with two guests that speak DHCP",
        example="web 10.0.0.9",
        machines=(_host(), _OUTSIDE),
        faults=(),
    ),
    virtual={"default": _default()},
    guests=tuple(
        RealGuest(
            name=name,
            nics=(RealNic(name="ens3", mac=mac, network="default"),),
            setup=_dhcp(name, "ens3"),
        )
        for name, mac in (("web", "52:54:00:00:00:77"), ("db", "52:54:00:00:00:dd"))
    ),
)

REAL_NETWORKS = {network.namespaces.name: network for network in (_CLUSTER, _LIBVIRT_NAT)}
