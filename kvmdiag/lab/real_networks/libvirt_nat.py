"""libvirt's default network with two real guests that speak DHCP.

    web ens3 -- vnet0 virbr0 host eno1 -- outside
    db  ens3 -- vnet1 virbr0

What is wrong here is made as on any host: with virsh, by ending a program, by a flush.
"""

from __future__ import annotations

from kvmdiag.lab.real_networks import parts
from kvmdiag.lab.real_spec import RealGuest, RealNetwork, RealNic
from kvmdiag.lab.spec import Fault, Network, Shell, Step, Sysctls

_GUESTS = (
    ("web", "52:54:00:00:00:77", "192.168.122.77"),
    ("db", "52:54:00:00:00:dd", "192.168.122.88"),
)
_RESTART = "virsh net-destroy default\nvirsh net-start default"
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


def _host_fault(name: str, summary: str, *steps: Step | Shell) -> Fault:
    return Fault(name=name, machine="host", summary=summary, check=name, steps=steps)


_FAULTS = (
    _host_fault(
        "net-restart-orphan-taps",
        "network default was stopped and started; the taps are no ports of the new virbr0",
        Shell("host", _RESTART),
    ),
    _host_fault(
        "libvirt-net-inactive",
        "network default was stopped",
        Shell("host", "virsh net-destroy default"),
    ),
    _host_fault(
        "dnsmasq-dead",
        "libvirt's dnsmasq was killed, and web asks for its address anew",
        Shell("host", "kill $(cat /run/libvirt/network/default.pid)"),
        Shell("web", parts.dhcp_again("web", "ens3")),
    ),
    _host_fault(
        "dnsmasq-port-conflict",
        "another name server holds port 53, so that network default does not start again",
        Shell("host", f"virsh net-destroy default\n{_NAME_SERVER}\n! virsh net-start default"),
    ),
    _host_fault(
        "fw-flush-lost-libvirt-rules",
        "a firewall was reloaded and has flushed all rules, libvirt's too",
        Shell("host", "nft flush ruleset"),
    ),
    _host_fault(
        "ip-forward-off", "the host does not forward", Sysctls("host", {"net.ipv4.ip_forward": "0"})
    ),
    _host_fault(
        "guest-link-state-down",
        "libvirt has unplugged the cable of web",
        Shell("host", "virsh domif-setlink web 52:54:00:00:00:77 down"),
    ),
    Fault(
        name="guest-paused-tap-drops",
        machine="web",
        summary="web is paused",
        check="guest-paused-tap-drops",
        steps=(Shell("host", "virsh suspend web"),),
    ),
    Fault(
        name="duplicate-mac",
        machine="db",
        summary="db was cloned from web and has its MAC address",
        check="duplicate-mac",
        steps=(
            Shell("host", _CLONE),
            Shell(
                "db",
                "until [ -e /run/ready ]; do sleep 1; done\nkillall udhcpc\n"
                "/usr/sbin/ip address flush dev ens3\n"
                "/usr/sbin/ip address add 192.168.122.88/24 dev ens3\n"
                "/usr/sbin/ip route add default via 192.168.122.1",
            ),
        ),
    ),
    _host_fault(
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
        machines=(parts.host(), parts.OUTSIDE),
        faults=_FAULTS,
    ),
    virtual={"default": parts.default(*(parts.reservation(*guest) for guest in _GUESTS))},
    guests=tuple(
        RealGuest(
            name=name,
            nics=(RealNic(name="ens3", mac=mac, network="default"),),
            setup=parts.dhcp(name, "ens3"),
        )
        for name, mac, _ in _GUESTS
    ),
)
