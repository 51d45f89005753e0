"""Links, bridges and their ports, on recorded facts."""

import pytest

from kvmdiag.model.link import Bond, Bridge, BridgePort, LinkCounters, LinkRef, Tap, Wireless
from kvmdiag.model.link_kinds import Macvlan, VirtualFunction
from kvmdiag.model.stack import Address, BridgeVlan, FdbEntry, MdbEntry

from .build import proved
from .recorded import MAC0, Proof, change, domain, every, link, prove, replace, stack

BIG = LinkCounters(tx_dropped=5000, tx_packets=1000, rx_packets=7)
SNOOPING = Bridge(multicast_snooping=True, multicast_querier=True)
V6 = stack(
    "vm0",
    addresses=(
        Address(link="eth0", address="192.168.1.1", prefix_length=16),
        Address(link="eth0", address="fd00::5", prefix_length=64),
    ),
)

# By check: what makes it fire, and what looks like it and is harmless.
CASES = {
    "wifi-cannot-bridge": Proof(
        link("wlan0", master="virbr0", port=BridgePort(), wireless=Wireless(mode="managed")),
        link("wlan0", wireless=Wireless(mode="managed")),
    ),
    "bridge-loop": Proof(
        every(
            link("a", kind="veth", master="virbr0", port=BridgePort(), peer=LinkRef("host", "b")),
            link("b", kind="veth", master="virbr0", port=BridgePort(), peer=LinkRef("host", "a")),
        ),
        every(
            link("a", kind="veth", master="virbr0", port=BridgePort(), peer=LinkRef("host", "b")),
            link("b", kind="veth", peer=LinkRef("host", "a")),
        ),
    ),
    "bridge-mac-changed": Proof(
        link("eth9", mac="02:00:00:00:00:09", master="virbr0", port=BridgePort()),
        link("eth9", mac="02:00:00:00:00:03", master="virbr0", port=BridgePort()),
    ),
    "libvirt-bridge-owns-uplink": Proof(
        link("eth9", mac="02:00:00:00:00:09", master="virbr0", port=BridgePort()),
        link("eth9", mac="02:00:00:00:00:09"),
    ),
    "vlan-filter-mismatch": Proof(
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
    "mcast-snooping-nd-loss": Proof(
        every(V6, link("virbr0", bridge=SNOOPING), stack(mdb=())),
        every(
            V6,
            link("virbr0", bridge=SNOOPING),
            stack(mdb=(MdbEntry(bridge="virbr0", port="vnet0", group="ff02::1:ff00:5"),)),
        ),
    ),
    "link-local-frames-not-forwarded": Proof(
        every(
            link("bond0", "vm0", kind="bond", bond=Bond(mode="802.3ad")),
            link("eth0", "vm0", master="bond0"),
        ),
        link("bond0", "vm0", kind="bond", bond=Bond(mode="active-backup")),
    ),
    "bond-alb-under-bridge": Proof(
        link(
            "bond0", kind="bond", master="virbr0", port=BridgePort(), bond=Bond(mode="balance-alb")
        ),
        link("bond0", kind="bond", master="virbr0", port=BridgePort(), bond=Bond(mode="802.3ad")),
    ),
    "sriov-vf-spoof-trust": Proof(
        link("eth0", virtual_functions=(VirtualFunction(index=0, link_state="disable"),)),
        link("eth0", virtual_functions=(VirtualFunction(index=0, trust=True, spoof_check=True),)),
    ),
    "sriov-vf-to-pf-bridge": Proof(
        link(
            "eth9",
            master="virbr0",
            port=BridgePort(),
            virtual_functions=(VirtualFunction(index=0),),
        ),
        link("eth9", virtual_functions=(VirtualFunction(index=0),)),
    ),
    "macvtap-vepa-no-reflect": Proof(
        every(
            link("t0", kind="macvtap", lower="eth0", macvlan=Macvlan(mode="vepa")),
            link("t1", kind="macvtap", lower="eth0", macvlan=Macvlan(mode="vepa")),
        ),
        link("t0", kind="macvtap", lower="eth0", macvlan=Macvlan(mode="vepa")),
    ),
    "vmware-promiscuous": Proof(
        link("eth9", mac="00:0c:29:00:00:01", master="virbr0", port=BridgePort()),
        link("eth9", mac="00:0c:29:00:00:01"),
    ),
    "qos-bandwidth-cap": Proof(domain(inbound=100), domain()),
    "tap-queue-drops": Proof(
        link("vnet0", counters=BIG),
        link("vnet0", counters=replace(BIG, tx_packets=10**7)),
    ),
    "vhost-net-missing": Proof(
        every(domain(model="virtio"), link("vnet0", counters=BIG)),
        every(domain(model="e1000"), link("vnet0", counters=BIG)),
    ),
    "multiqueue-unused": Proof(
        link("vnet0", tap=Tap(multi_queue=True, queues=1, disabled_queues=3)),
        link("vnet0", tap=Tap(multi_queue=True, queues=4)),
    ),
    "guest-driver-missing": Proof(
        link("vnet0", counters=LinkCounters(tx_packets=500)),
        link("vnet0", counters=LinkCounters(tx_packets=5)),
    ),
    "jumbo-mtu-bridge-min": Proof(
        every(link("eth0", "vm0", mtu=9000), link("eth0", "vm1", mtu=9000)),
        link("eth0", "vm0", mtu=9000),
    ),
    "kubevirt-mtu": Proof(
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
    "bridge-flood-learning-off": Proof(
        every(link("vnet0", port=BridgePort(learning=False, flood=False)), stack(fdb=())),
        every(
            link("vnet0", port=BridgePort(learning=False, flood=False)),
            stack(fdb=(FdbEntry(bridge="virbr0", port="vnet0", mac=MAC0, static=True),)),
        ),
    ),
    "bridge-ip-left-on-port": Proof(
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
    "duplicate-mac": Proof(
        link("eth0", "vm1", mac=MAC0),
        link("eth0", "vm1", mac="52:54:00:09:00:00"),
    ),
}


@pytest.mark.parametrize("check", proved(CASES))
def test_it_fires_on_its_fault_and_is_silent_on_its_trap(check):
    """One finding or more with evidence; none for what merely looks like it."""
    prove(check, CASES[check])
