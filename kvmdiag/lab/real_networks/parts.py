"""What practice networks with real guests share: a host with an uplink, network default, DHCP."""

from __future__ import annotations

from kvmdiag.lab.spec import Link, Machine

UPLINK = Link(name="eno1", mac="52:54:00:10:00:10", addresses=("10.0.0.10/24",), peer="outside:lan")
OUTSIDE = Machine(
    name="outside",
    links=(Link(name="lan", mac="52:54:00:10:00:09", addresses=("10.0.0.9/24", "10.0.0.1/24")),),
)

RESTART_LIBVIRT = """\
daemon=$(cat /run/libvirtd.pid)
kill $daemon
while kill -0 $daemon 2> /dev/null; do sleep 0.1; done
libvirtd --daemon --pid-file /run/libvirtd.pid
until virsh -q list > /dev/null 2>&1; do sleep 0.2; done
"""
"""Shell that does what ``systemctl restart libvirtd`` does; guests run on."""


def host(*links: Link) -> Machine:
    """A host that forwards, with one uplink and these links."""
    return Machine(
        name="host",
        links=(UPLINK, *links),
        routes=("default via 10.0.0.1 dev eno1",),
        sysctls={"net.ipv4.ip_forward": "1"},
    )


def default(*hosts: str) -> str:
    """The default network as libvirt ships it; ``hosts`` are reservations of its DHCP.

    An address that is reserved is given at once: dnsmasq pings any other for three seconds.
    """
    return f"""
<network>
  <name>default</name>
  <forward mode='nat'/>
  <bridge name='virbr0' stp='on' delay='0'/>
  <ip address='192.168.122.1' netmask='255.255.255.0'>
    <dhcp><range start='192.168.122.2' end='192.168.122.254'/>{"".join(hosts)}</dhcp>
  </ip>
</network>"""


def reservation(name: str, mac: str, address: str) -> str:
    """An address that DHCP keeps for a guest."""
    return f"<host mac='{mac}' name='{name}' ip='{address}'/>"


def dhcp(name: str, nic: str) -> str:
    """Shell that asks for an address until there is one."""
    return (
        f"/usr/sbin/ip link set {nic} up\n"
        f"udhcpc -i {nic} -s /etc/dhcp -x hostname:{name} -t 10 -T 1 -A 1 -b > /run/dhcp 2>&1\n"
    )


# udhcpc forgets its lease by itself when it is ended, and so does not keep the address.
def dhcp_again(name: str, nic: str) -> str:
    """Shell that gives up the address and asks anew, as a guest does that boots."""
    return (
        f"killall udhcpc || true\n/usr/sbin/ip address flush dev {nic}\n"
        f"udhcpc -i {nic} -s /etc/dhcp -x hostname:{name} -t 2 -T 1 -A 1 -b > /run/dhcp 2>&1\n"
    )
