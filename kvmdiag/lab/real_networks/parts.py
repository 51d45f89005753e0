"""What practice networks with real guests share: libvirt's networks, guests, and their setup."""

from __future__ import annotations

from typing import NamedTuple

from kvmdiag.lab.real_spec import IP, RealGuest, RealNic
from kvmdiag.lab.spec import Machine


class Lease(NamedTuple):
    """An address that DHCP keeps for a guest."""

    guest: str
    mac: str
    address: str


RESTART_DEFAULT = "virsh net-destroy default\nvirsh net-start default"
RESTART_LIBVIRT = """\
daemon=$(cat /run/libvirtd.pid)
kill $daemon
while kill -0 $daemon 2> /dev/null; do sleep 0.1; done
libvirtd --daemon --pid-file /run/libvirtd.pid
until virsh -q list > /dev/null 2>&1; do sleep 0.2; done
"""
"""Shell that does what ``systemctl restart libvirtd`` does; guests run on."""


def network(name: str, bridge: str, mode: str | None, gateway: str, *leases: Lease) -> str:
    """A network of libvirt's with DHCP.

    An address that is reserved is given at once: dnsmasq pings any other for three seconds.
    """
    forward = f"<forward mode='{mode}'/>" if mode else ""
    prefix = gateway.rpartition(".")[0]
    hosts = "".join(f"<host mac='{mac}' name='{guest}' ip='{ip}'/>" for guest, mac, ip in leases)
    return f"""
<network>
  <name>{name}</name>{forward}
  <bridge name='{bridge}' stp='on' delay='0'/>
  <ip address='{gateway}' netmask='255.255.255.0'>
    <dhcp><range start='{prefix}.2' end='{prefix}.254'/>{hosts}</dhcp>
  </ip>
</network>"""


def default(*leases: Lease) -> str:
    """The network that libvirt ships."""
    return network("default", "virbr0", "nat", "192.168.122.1", *leases)


def guest(lease: Lease, *, virtual: str = "default", setup: str = "") -> RealGuest:
    """A guest with one NIC, on a network of libvirt's; it asks for its address, then ``setup``."""
    nic = RealNic(name="ens3", mac=lease.mac, network=virtual)
    return RealGuest(name=lease.guest, nics=(nic,), setup=dhcp(lease.guest, "ens3") + setup)


def dhcp(name: str, nic: str) -> str:
    """Shell that asks for an address until there is one."""
    return f"{IP} link set {nic} up\n" + _ask(name, nic, tries=10)


# udhcpc forgets its lease by itself when it is ended, and so does not keep the address.
def dhcp_again(name: str, nic: str) -> str:
    """Shell that gives up the address and asks anew, as a guest does that boots."""
    return f"killall udhcpc || true\n{IP} address flush dev {nic}\n" + _ask(name, nic, tries=2)


def _ask(name: str, nic: str, *, tries: int) -> str:
    options = f"-x hostname:{name} -t {tries} -T 1 -A 1 -b"
    return f"udhcpc -i {nic} -s /etc/dhcp {options} > /run/dhcp 2>&1\n"


def static(machine: Machine) -> str:
    """Shell that gives a guest the addresses and routes that a namespace in its place has."""
    lines = []
    for nic in machine.links:
        mtu = f" mtu {nic.mtu}" if nic.mtu else ""
        lines += [f"link set {nic.name}{mtu} up"]
        lines += [f"address add {address} broadcast + dev {nic.name}" for address in nic.addresses]
    lines += [f"route add {route}" for route in machine.routes]
    return "".join(f"{IP} {line}\n" for line in lines)
