"""libvirt's default network with two real guests that speak DHCP.

    web ens3 -- vnet0 virbr0 host eno1 -- outside
    db  ens3 -- vnet1 virbr0

What is wrong here is made as on any host: with virsh, by ending a program, by a flush.
"""

from __future__ import annotations

from kvmdiag.lab.faults import fault, forwarding_off
from kvmdiag.lab.machines import OUTSIDE, host
from kvmdiag.lab.real_networks import parts
from kvmdiag.lab.real_spec import IP, RealNetwork
from kvmdiag.lab.spec import Network, Shell

_WEB = parts.Lease("web", "52:54:00:00:00:77", "192.168.122.77")
_DB = parts.Lease("db", "52:54:00:00:00:dd", "192.168.122.88")
# A second name server, as an administrator runs it for the machine itself: on all addresses.
_NAME_SERVER = "dnsmasq --conf-file=/dev/null --port=53 --no-resolv --pid-file=/run/dns.pid"
_WRONG_ADDRESS = """\
cat > /run/nic.xml <<END
<interface type='network'>
  <mac address='52:54:00:00:00:77'/>
  <source network='default'/>
  <model type='virtio'/>
  <filterref filter='clean-traffic'><parameter name='IP' value='192.168.122.99'/></filterref>
  <rom enabled='no'/>
</interface>
END
virsh update-device web /run/nic.xml --live"""
# db gets web's MAC address, as a clone does that was made by copying the XML.
_CLONE = """\
virsh dumpxml --inactive db | sed s/52:54:00:00:00:dd/52:54:00:00:00:77/ > /run/db.xml
virsh destroy db
virsh define /run/db.xml
virsh start db"""
_ITS_OWN_ADDRESS = f"""\
until [ -e /run/ready ]; do sleep 1; done
killall udhcpc
{IP} address flush dev ens3
{IP} address add 192.168.122.88/24 dev ens3
{IP} route add default via 192.168.122.1"""


_FAULTS = (
    fault(
        "net-restart-orphan-taps",
        "network default was stopped and started; the taps are no ports of the new virbr0",
        Shell("host", parts.RESTART_DEFAULT),
    ),
    fault(
        "libvirt-net-inactive",
        "network default was stopped",
        Shell("host", "virsh net-destroy default"),
    ),
    fault(
        "dnsmasq-dead",
        "libvirt's dnsmasq was killed, and web asks for its address anew",
        Shell("host", "kill $(cat /run/libvirt/network/default.pid)"),
        Shell("web", parts.dhcp_again("web", "ens3")),
    ),
    fault(
        "dnsmasq-port-conflict",
        "another name server holds port 53, so that network default does not start again",
        Shell("host", f"virsh net-destroy default\n{_NAME_SERVER}\n! virsh net-start default"),
    ),
    fault(
        "fw-flush-lost-libvirt-rules",
        "a firewall was reloaded and has flushed all rules, libvirt's too",
        Shell("host", "nft flush ruleset"),
    ),
    fault("ip-forward-off", "the host does not forward", forwarding_off("host")),
    fault(
        "guest-link-state-down",
        "libvirt has unplugged the cable of web",
        Shell("host", "virsh domif-setlink web 52:54:00:00:00:77 down"),
    ),
    fault(
        "guest-paused-tap-drops",
        "web is paused",
        Shell("host", "virsh suspend web"),
        machine="web",
    ),
    fault(
        "duplicate-mac",
        "db was cloned from web and has its MAC address",
        Shell("host", _CLONE),
        Shell("db", _ITS_OWN_ADDRESS),
        machine="db",
    ),
    fault(
        "nwfilter-wrong-ip",
        "libvirt's filter clean-traffic for web names another address",
        Shell("host", _WRONG_ADDRESS),
    ),
)

REAL_NETWORK = RealNetwork(
    namespaces=Network(
        name="libvirt-nat",
        summary="libvirt's default network with two guests that speak DHCP",
        example="web 10.0.0.9",
        machines=(host(), OUTSIDE),
        faults=_FAULTS,
    ),
    virtual={"default": parts.default(_WEB, _DB)},
    guests=(parts.guest(_WEB), parts.guest(_DB)),
)
