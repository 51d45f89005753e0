"""Checks that tell from facts alone: each fires on its fault and is silent on its trap."""

import msgspec
import pytest

from kvmdiag.model.activity import Conntrack
from kvmdiag.model.guest import Inside, Resolver
from kvmdiag.model.libvirt import Domain, GuestNic, Lease, Libvirt
from kvmdiag.model.link import Bond, Bridge, BridgePort, Link, LinkCounters, LinkRef, Tap, Wireless
from kvmdiag.model.link_kinds import Macvlan, VirtualFunction, Vxlan
from kvmdiag.model.snapshot import Gap, Snapshot
from kvmdiag.model.stack import Address, BridgeVlan, FdbEntry, MdbEntry, Neighbour, NextHop, Route

from .build import found, judge, proved
from .many import host_with

replace = msgspec.structs.replace


def change(snapshot: Snapshot, stack: str = "host", **fields: object) -> Snapshot:
    """The snapshot with some fields of one stack replaced."""
    return snapshot.with_stack(replace(snapshot.stack(stack), **fields))


def link(name: str, stack: str = "host", **fields: object):
    """Change a link, or add it when it is not there."""

    def apply(snapshot: Snapshot) -> Snapshot:
        old = snapshot.stack(stack).links
        if any(each.name == name for each in old):
            links = tuple(replace(e, **fields) if e.name == name else e for e in old)
        else:
            links = (*old, Link(index=500 + len(old), name=name, **fields))
        return change(snapshot, stack, links=links)

    return apply


def domain(state: str = "running", stored=None, **nic: object):
    """One guest of libvirt's with one NIC."""
    nics = (GuestNic(**{"type": "network", "source": "default", "target": "vnet0", **nic}),)
    guest = Domain(name="vm0", state=state, nics=nics, stored_nics=stored)
    return lambda snapshot: replace(snapshot, domains=(guest,))


def network(**fields: object):
    """Change libvirt's network."""
    return lambda s: replace(s, networks=(replace(s.networks[0], **fields),))


def stack(name: str = "host", **fields: object):
    """Replace fields of a stack."""
    return lambda snapshot: change(snapshot, name, **fields)


def sysctls(**values: str):
    """Set sysctls of the host; a double underscore is a dot."""
    names = {key.replace("__", "."): value for key, value in values.items()}
    return lambda s: change(s, sysctls={**s.stack("host").sysctls, **names})


def every(*changes):
    """One change after the other."""

    def apply(snapshot: Snapshot) -> Snapshot:
        for each in changes:
            snapshot = each(snapshot)
        return snapshot

    return apply


def snapshot_with(**fields: object):
    """Replace fields of the snapshot."""
    return lambda snapshot: replace(snapshot, **fields)


def leases(*pairs: tuple[str, str]):
    """MAC and address of each lease."""
    return tuple(Lease(mac=mac, address=address) for mac, address in pairs)


MAC0, MAC1 = "52:54:00:01:00:00", "52:54:00:01:00:01"
BIG = LinkCounters(tx_dropped=5000, tx_packets=1000, rx_packets=7)
SNOOPING = Bridge(multicast_snooping=True, multicast_querier=True)
V6 = stack(
    "vm0",
    addresses=(
        Address(link="eth0", address="192.168.1.1", prefix_length=16),
        Address(link="eth0", address="fd00::5", prefix_length=64),
    ),
)
RA = Route(destination="::/0", protocol="ra", next_hops=(NextHop(link="eth0", gateway="fe80::1"),))


def plus_routes(name: str, *routes: Route):
    """More routes."""
    return lambda s: change(s, name, routes=(*s.stack(name).routes, *routes))


# Check: (what makes it fire, what looks like it and is harmless).
CASES = {
    "wifi-cannot-bridge": (
        link("wlan0", master="virbr0", port=BridgePort(), wireless=Wireless(mode="managed")),
        link("wlan0", wireless=Wireless(mode="managed")),
    ),
    "clone-same-machine-id-same-ip": (
        network(leases=leases((MAC0, "192.168.1.9"), (MAC1, "192.168.1.9"))),
        network(leases=leases((MAC0, "192.168.1.9"), (MAC1, "192.168.1.8"))),
    ),
    "runtime-config-lost-after-reboot": (
        every(domain(), network(persistent=False)),
        every(domain(), network(persistent=True, autostart=True)),
    ),
    "dnsmasq-port-conflict": (network(active=False), network(active=True)),
    "dns-single-label-resolved": (
        snapshot_with(
            guests=(
                Inside(domain="vm0", access="full", resolver=Resolver(nameservers=("127.0.0.53",))),
            )
        ),
        snapshot_with(
            guests=(
                Inside(
                    domain="vm0",
                    access="full",
                    resolver=Resolver(nameservers=("127.0.0.53",), search=("x",)),
                ),
            )
        ),
    ),
    "guest-no-dns": (
        snapshot_with(guests=(Inside(domain="vm0", access="full", resolver=Resolver()),)),
        snapshot_with(guests=(Inside(domain="vm0", access="none"),)),
    ),
    "vmware-promiscuous": (
        link("eth9", mac="00:0c:29:00:00:01", master="virbr0", port=BridgePort()),
        link("eth9", mac="00:0c:29:00:00:01"),
    ),
    "virtnetworkd-down": (
        snapshot_with(gaps=(Gap(stack=None, fact="libvirt", why="refused", help="start it"),)),
        snapshot_with(gaps=(Gap(stack=None, fact="libvirt", why="none", help="", expected=True),)),
    ),
    "kernel-upgraded-modules-gone": (
        snapshot_with(gaps=(Gap(stack="host", fact="mdb", why="No such device", help="x"),)),
        snapshot_with(gaps=(Gap(stack="host", fact="mdb", why="not allowed", help="x"),)),
    ),
    "libvirt-fw-binary-missing": (
        every(
            network(active=False),
            snapshot_with(gaps=(Gap(stack="host", fact="tables", why="no nft", help="x"),)),
        ),
        snapshot_with(gaps=(Gap(stack="host", fact="tables", why="no nft", help="x"),)),
    ),
    "qemu-user-mode": (domain(type="user"), domain()),
    "qemu-bridge-helper-acl": (
        every(
            domain(state="shutoff", type="bridge", source="br0"),
            snapshot_with(libvirt=Libvirt(uri="qemu:///session", version="9.0.0")),
        ),
        every(
            domain(state="shutoff", type="bridge", source="br0"),
            snapshot_with(libvirt=Libvirt(uri="qemu:///system", version="9.0.0")),
        ),
    ),
    "bridge-loop": (
        every(
            link("a", kind="veth", master="virbr0", port=BridgePort(), peer=LinkRef("host", "b")),
            link("b", kind="veth", master="virbr0", port=BridgePort(), peer=LinkRef("host", "a")),
        ),
        every(
            link("a", kind="veth", master="virbr0", port=BridgePort(), peer=LinkRef("host", "b")),
            link("b", kind="veth", peer=LinkRef("host", "a")),
        ),
    ),
    "bridge-mac-changed": (
        link("eth9", mac="02:00:00:00:00:09", master="virbr0", port=BridgePort()),
        link("eth9", mac="02:00:00:00:00:03", master="virbr0", port=BridgePort()),
    ),
    "libvirt-bridge-owns-uplink": (
        link("eth9", mac="02:00:00:00:00:09", master="virbr0", port=BridgePort()),
        link("eth9", mac="02:00:00:00:00:09"),
    ),
    "dhcp-double-or-rogue": (
        link("eth9", mac="02:00:00:00:00:09", master="virbr0", port=BridgePort()),
        every(
            network(dhcp=False),
            link("eth9", mac="02:00:00:00:00:09", master="virbr0", port=BridgePort()),
        ),
    ),
    "vlan-filter-mismatch": (
        every(
            link("virbr0", bridge=Bridge(vlan_filtering=True)),
            stack(
                bridge_vlans=tuple(
                    BridgeVlan(link=name, vid=vid)
                    for name, vid in (("vnet0", 7), ("vnet1", 1), ("virbr0", 1))
                )
            ),
        ),
        stack(bridge_vlans=(BridgeVlan(link="vnet0", vid=7), BridgeVlan(link="vnet1", vid=1))),
    ),
    "libvirt-vlan-on-linux-bridge": (
        every(domain(vlans=(7,)), snapshot_with(libvirt=Libvirt(uri="x", version="9.0.0"))),
        every(domain(vlans=(7,)), snapshot_with(libvirt=Libvirt(uri="x", version="11.1.0"))),
    ),
    "mcast-snooping-nd-loss": (
        every(V6, link("virbr0", bridge=SNOOPING), stack(mdb=())),
        every(
            V6,
            link("virbr0", bridge=SNOOPING),
            stack(mdb=(MdbEntry(bridge="virbr0", port="vnet0", group="ff02::1:ff00:5"),)),
        ),
    ),
    "link-local-frames-not-forwarded": (
        every(
            link("bond0", "vm0", kind="bond", bond=Bond(mode="802.3ad")),
            link("eth0", "vm0", master="bond0"),
        ),
        link("bond0", "vm0", kind="bond", bond=Bond(mode="active-backup")),
    ),
    "bond-alb-under-bridge": (
        link(
            "bond0", kind="bond", master="virbr0", port=BridgePort(), bond=Bond(mode="balance-alb")
        ),
        link("bond0", kind="bond", master="virbr0", port=BridgePort(), bond=Bond(mode="802.3ad")),
    ),
    "sriov-vf-spoof-trust": (
        link("eth0", virtual_functions=(VirtualFunction(index=0, link_state="disable"),)),
        link("eth0", virtual_functions=(VirtualFunction(index=0, trust=True, spoof_check=True),)),
    ),
    "sriov-vf-to-pf-bridge": (
        link(
            "eth9",
            master="virbr0",
            port=BridgePort(),
            virtual_functions=(VirtualFunction(index=0),),
        ),
        link("eth9", virtual_functions=(VirtualFunction(index=0),)),
    ),
    "macvtap-vepa-no-reflect": (
        every(
            link("t0", kind="macvtap", lower="eth0", macvlan=Macvlan(mode="vepa")),
            link("t1", kind="macvtap", lower="eth0", macvlan=Macvlan(mode="vepa")),
        ),
        link("t0", kind="macvtap", lower="eth0", macvlan=Macvlan(mode="vepa")),
    ),
    "ovs-virtualport-missing": (
        every(link("ovs0", kind="openvswitch"), domain(type="bridge", source="ovs0")),
        every(
            link("ovs0", kind="openvswitch"),
            domain(type="bridge", source="ovs0", virtualport="openvswitch"),
        ),
    ),
    "dhcp-pool-exhausted": (
        network(ranges=(("192.168.1.2", "192.168.1.2"),), leases=leases((MAC0, "192.168.1.2"))),
        network(ranges=(("192.168.1.2", "192.168.1.3"),), leases=leases((MAC0, "192.168.1.2"))),
    ),
    "dnsmasq-dead": (stack(sockets=()), every(network(dhcp=False, dns=False), stack(sockets=()))),
    "conntrack-table-full": (
        stack(conntrack=Conntrack(count=100, maximum=100)),
        stack(conntrack=Conntrack(count=99, maximum=100)),
    ),
    "nat-port-exhaustion": (
        stack(conntrack=Conntrack(count=1, maximum=9, stats={"insert_failed": 5000})),
        stack(conntrack=Conntrack(count=1, maximum=9, stats={"insert_failed": 5})),
    ),
    "neigh-table-overflow": (
        every(
            sysctls(net__ipv4__neigh__default__gc_thresh3="1"),
            stack(neighbours=(Neighbour(link="eth0", address="10.0.0.1"),)),
        ),
        every(
            sysctls(net__ipv4__neigh__default__gc_thresh3="1024"),
            stack(neighbours=(Neighbour(link="eth0", address="10.0.0.1"),)),
        ),
    ),
    "ipv6-libvirt-refuses": (
        every(
            network(active=False, addresses=("fd00::1/64",)),
            plus_routes("host", RA),
            sysctls(net__ipv6__conf__eth0__accept_ra="1"),
        ),
        every(
            network(active=False, addresses=("fd00::1/64",)),
            plus_routes("host", RA),
            sysctls(net__ipv6__conf__eth0__accept_ra="2"),
        ),
    ),
    "ipv6-no-egress": (
        every(V6, plus_routes("vm0", RA)),
        every(V6, plus_routes("vm0", RA), plus_routes("host", RA)),
    ),
    "calico-ip-autodetect": (
        link("vxlan.calico", kind="vxlan", vxlan=Vxlan(vni=1, local="192.168.0.1")),
        link("vxlan.calico", kind="vxlan", vxlan=Vxlan(vni=1, local="10.0.0.10")),
    ),
    "qos-bandwidth-cap": (domain(inbound=100), domain()),
    "tap-queue-drops": (
        link("vnet0", counters=BIG),
        link("vnet0", counters=replace(BIG, tx_packets=10**7)),
    ),
    "vhost-net-missing": (
        every(domain(model="virtio"), link("vnet0", counters=BIG)),
        every(domain(model="e1000"), link("vnet0", counters=BIG)),
    ),
    "multiqueue-unused": (
        link("vnet0", tap=Tap(multi_queue=True, queues=1, disabled_queues=3)),
        link("vnet0", tap=Tap(multi_queue=True, queues=4)),
    ),
    "guest-driver-missing": (
        link("vnet0", counters=LinkCounters(tx_packets=500)),
        link("vnet0", counters=LinkCounters(tx_packets=5)),
    ),
    "live-vs-config-drift": (
        domain(stored=(GuestNic(type="network", source="other"),)),
        domain(stored=None),
    ),
    "libvirt-net-inactive": (every(domain(), network(active=False)), network(active=False)),
    "missing-bridge-start-fail": (
        domain(state="shutoff", type="bridge", source="mybr0"),
        domain(state="shutoff", type="bridge", source="virbr0"),
    ),
    "guest-paused-tap-drops": (domain(state="paused"), domain(state="pmsuspended")),
    "duplicate-mac": (
        link("eth0", "vm1", mac=MAC0),
        link("eth0", "vm1", mac="52:54:00:09:00:00"),
    ),
    "duplicate-ip": (
        stack("vm1", addresses=(Address(link="eth0", address="192.168.1.1", prefix_length=16),)),
        stack("vm1", addresses=(Address(link="eth0", address="192.168.1.7", prefix_length=16),)),
    ),
    "jumbo-mtu-bridge-min": (
        every(link("eth0", "vm0", mtu=9000), link("eth0", "vm1", mtu=9000)),
        link("eth0", "vm0", mtu=9000),
    ),
    "kubevirt-mtu": (
        every(
            link("k6t-eth0", kind="bridge", mtu=1450, bridge=Bridge()),
            link("vnet0", master="k6t-eth0"),
        ),
        every(
            link("k6t-eth0", kind="bridge", mtu=1450, bridge=Bridge()),
            link("vnet0", master="k6t-eth0"),
            link("eth0", "vm0", mtu=1450),
        ),
    ),
    "bridge-flood-learning-off": (
        every(link("vnet0", port=BridgePort(learning=False, flood=False)), stack(fdb=())),
        every(
            link("vnet0", port=BridgePort(learning=False, flood=False)),
            stack(fdb=(FdbEntry(bridge="virbr0", port="vnet0", mac=MAC0, static=True),)),
        ),
    ),
    "bridge-ip-left-on-port": (
        every(
            link("eth9", mac="02:00:00:00:00:09", master="virbr0", port=BridgePort()),
            lambda s: change(
                s,
                addresses=(
                    *s.stack("host").addresses,
                    Address(link="eth9", address="172.16.0.1", prefix_length=24),
                ),
            ),
        ),
        every(
            link("eth9", mac="02:00:00:00:00:09", master="virbr0", port=BridgePort()),
            lambda s: change(
                s,
                addresses=(
                    *s.stack("host").addresses,
                    Address(link="eth9", address="fe80::1", prefix_length=64, scope="link"),
                ),
            ),
        ),
    ),
}


@pytest.mark.parametrize("check", proved(CASES))
def test_it_fires_on_its_fault_and_is_silent_on_its_trap(check):
    """One finding or more with evidence; none for what merely looks like it."""
    fault, trap = CASES[check]
    fired = found(judge(fault(host_with(2))), check)
    assert fired, "it does not fire"
    assert all(finding.evidence for finding in fired)
    assert found(judge(host_with(2)), check) == [], "it fires on a healthy host"
    assert found(judge(trap(host_with(2))), check) == [], "it fires on its trap"
