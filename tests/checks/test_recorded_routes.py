"""Routing, several uplinks, IPv6 and what lies beyond, on recorded facts."""

import pytest

from kvmdiag.model.link import Bridge, BridgePort, LinkRef, Vlan
from kvmdiag.model.link_kinds import Vxlan
from kvmdiag.model.stack import Address, Neighbour, PolicyRule

from .build import proved
from .recorded import (
    MAC1,
    Proof,
    address,
    domain,
    every,
    link,
    network,
    no_address,
    no_default_route,
    prove,
    route,
    rule,
    snapshot_with,
    stack,
    sysctls,
)

OUT = ("vm0", "10.0.0.9")
PEER = ("vm0", "192.168.1.2")
NOBODY = ("vm0", "192.168.9.9")
BY_HAND = snapshot_with(networks=())
PORT = {"mac": "02:00:00:00:00:09", "master": "virbr0", "port": BridgePort()}
UNTRANSLATED = rule("-j ACCEPT", "POSTROUTING", "nat")
SECOND_UPLINK = every(
    link("eth1", mac="02:00:00:00:00:0a"),
    address("eth1", "10.9.0.10/24"),
    route("0.0.0.0/0", table=100, link="eth1", gateway="10.9.0.1"),
    sysctls(net__ipv4__conf__all__rp_filter="1", net__ipv4__conf__eth1__forwarding="1"),
)
STANDARD = tuple(
    PolicyRule(priority=priority, table=table)
    for priority, table in ((0, 255), (32766, 254), (32767, 253))
)
# A guest with an address of the LAN, behind a host that routes to it.
OF_THE_LAN = every(
    network(mode="route"),
    no_address("eth0", "vm0"),
    address("eth0", "10.0.0.77/32", "vm0"),
    route("192.168.0.1/32", "vm0", link="eth0", scope="link"),
    route("0.0.0.0/0", "vm0", link="eth0", gateway="192.168.0.1"),
    route("10.0.0.77/32", link="virbr0", scope="link"),
    rule("-j ACCEPT"),
)
SECOND_NIC = every(
    link("vnet9", kind="tun", master="virbr0", port=BridgePort(), peer=LinkRef("vm0", "eth1")),
    link("eth1", "vm0", mac="52:54:00:01:00:09", peer=LinkRef("host", "vnet9")),
    address("eth1", "192.168.1.50/16", "vm0"),
)
TRUNK = every(link("eth9", **PORT), link("eth9.7", kind="vlan", lower="eth9", vlan=Vlan(vid=7)))
TUNNEL = every(
    link(
        "vxlan.calico",
        kind="vxlan",
        vxlan=Vxlan(vni=1),
        offloads=("tx-checksum-ip-generic",),
    ),
    route("10.244.0.0/16", link="vxlan.calico", gateway="10.244.1.0"),
)
V6 = address("eth0", "fd00::5/64", "vm0")
V6_UPLINK = every(
    stack(
        addresses=(
            Address(link="eth0", address="10.0.0.10", prefix_length=24),
            Address(link="virbr0", address="192.168.0.1", prefix_length=16),
            Address(link="eth0", address="2001:db8::10", prefix_length=64),
        )
    ),
    sysctls(net__ipv6__conf__all__forwarding="1"),
)
PUBLIC = address("virbr0", "188.64.100.1/24")


def known(mac: str):
    """The host was told for good where vm1 is."""
    entry = Neighbour(link="virbr0", address="192.168.1.2", mac=mac, state="permanent")
    return stack(neighbours=(entry,))


# By check: what makes it fire, and what looks like it and is harmless.
CASES = {
    "host-rp-filter-fwmark": Proof(
        every(
            SECOND_UPLINK,
            stack(policy_rules=(*STANDARD, PolicyRule(priority=99, fwmark=1, table=100))),
            rule("-i virbr0 -j MARK --set-xmark 0x1/0xffffffff", "PREROUTING", "mangle"),
        ),
        every(
            SECOND_UPLINK,
            stack(policy_rules=(*STANDARD, PolicyRule(priority=99, iif="virbr0", table=100))),
        ),
        ("vm0", "203.0.113.9"),
        says="cause",
    ),
    "routed-proxy-arp-missing": Proof(
        OF_THE_LAN,
        every(OF_THE_LAN, sysctls(net__ipv4__conf__eth0__proxy_arp="1")),
        OUT,
        says="cause",
    ),
    "routed-net-no-return-route": Proof(
        every(network(mode="route"), UNTRANSLATED),
        network(mode="route"),
        OUT,
        says="context",
    ),
    "multi-nic-same-subnet-arp-flux": Proof(
        SECOND_NIC,
        every(SECOND_NIC, stack("vm0", sysctls={"net.ipv4.conf.all.arp_ignore": "1"})),
        says="latent",
    ),
    "public-range-as-private": Proof(
        every(PUBLIC, rule("-s 188.64.100.0/24 -j MASQUERADE", "POSTROUTING", "nat")),
        PUBLIC,
        says="latent",
    ),
    "vlan-subif-steals-tags": Proof(
        every(TRUNK, link("eth0.7", "vm0", kind="vlan", lower="eth0", vlan=Vlan(vid=7))),
        TRUNK,
        says="latent",
    ),
    "ipv6-ra-lost-on-forwarding": Proof(
        every(V6_UPLINK, sysctls(net__ipv6__conf__eth0__accept_ra="1")),
        every(V6_UPLINK, sysctls(net__ipv6__conf__eth0__accept_ra="0")),
        says="latent",
    ),
    "isolated-no-gateway": Proof(
        every(network(mode=None), no_default_route("vm0")),
        every(network(mode=None), no_default_route("vm0")),
        OUT,
        PEER,
        says="context",
    ),
    "vxlan-csum-offload": Proof(
        TUNNEL,
        every(TUNNEL, link("vxlan.calico", offloads=())),
        ("vm0", "10.244.1.1"),
        says="context",
    ),
    "cloud-port-security": Proof(
        every(UNTRANSLATED, link("eth0", mac="fa:16:3e:00:00:01")),
        link("eth0", mac="fa:16:3e:00:00:01"),
        OUT,
        says="context",
    ),
    "provider-mac-filter": Proof(
        every(BY_HAND, link("eth9", **PORT)), link("eth9", **PORT), NOBODY, OUT, says="context"
    ),
    "ovs-port-dead-or-untagged": Proof(
        every(link("ovs-system", kind="openvswitch"), link("vnet0", master="ovs-system")),
        link("ovs-system", kind="openvswitch"),
        OUT,
        NOBODY,
        says="context",
    ),
    "macvtap-rxfilter-ipv6": Proof(
        domain(type="direct"),
        domain(type="direct"),
        ("vm0", "fd00::9"),
        NOBODY,
        says="context",
        base=V6,
    ),
    "policy-or-blackhole-route": Proof(
        route("10.0.0.9/32", type="blackhole"),
        route("0.0.0.0/0", type="blackhole", metric=9999),
        OUT,
        says="cause",
    ),
    "static-neigh-wrong": Proof(
        known("52:54:00:09:09:09"), known(MAC1), ("host", "192.168.1.2"), says="cause"
    ),
    "two-default-routes": Proof(
        every(
            SECOND_UPLINK,
            link("eth1", carrier=False),
            no_default_route(),
            route("0.0.0.0/0", link="eth0", gateway="10.0.0.1", metric=100),
            route("0.0.0.0/0", link="eth1", gateway="10.9.0.1", metric=50),
        ),
        every(SECOND_UPLINK, route("0.0.0.0/0", link="eth1", gateway="10.9.0.1", metric=500)),
        ("vm0", "203.0.113.9"),
        says="cause",
    ),
    "vpn-specific-route-steals-guest-net": Proof(
        route("192.168.1.0/25", link="eth0"),
        route("192.0.0.0/8", link="eth0"),
        ("host", "192.168.1.2"),
        says="cause",
    ),
    "arp-policy-blocks": Proof(
        stack("vm1", sysctls={"net.ipv4.conf.all.arp_ignore": "8"}),
        stack("vm1", sysctls={"net.ipv4.conf.all.arp_ignore": "1"}),
        PEER,
        says="cause",
    ),
    "port-isolated": Proof(
        every(
            link("vnet0", port=BridgePort(isolated=True)),
            link("vnet1", port=BridgePort(isolated=True)),
        ),
        link("vnet0", port=BridgePort(isolated=True)),
        PEER,
        says="cause",
    ),
    "nested-or-lan-subnet-overlap": Proof(
        every(
            link("virbr9", kind="bridge", mac="02:00:00:00:00:0b", bridge=Bridge()),
            address("virbr9", "192.168.1.0/25"),
        ),
        every(
            link("virbr9", kind="bridge", mac="02:00:00:00:00:0b", carrier=False, bridge=Bridge()),
            address("virbr9", "10.0.0.1/24"),
        ),
        ("host", "192.168.1.2"),
        OUT,
        says="cause",
    ),
}


@pytest.mark.parametrize("check", proved(CASES))
def test_it_fires_on_its_fault_and_is_silent_on_its_trap(check):
    """Asked about a path: what decides it is named, and what does not is not."""
    prove(check, CASES[check])
