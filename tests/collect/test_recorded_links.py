"""Decoding of links that a test machine may lack, from messages written by hand.

VLANs, bonds, VRFs, SR-IOV.
"""

from __future__ import annotations

import struct

from kvmdiag.collect.kernel import links
from kvmdiag.model.link import Vlan
from kvmdiag.model.link_kinds import (
    Bond,
    BondPort,
    Ipvlan,
    VirtualFunction,
    Vrf,
    Xdp,
)

from .netlink_messages import link, nested, u8, u16, u32


def read(*messages):
    """Links by name."""
    return {one.name: one for one in links.links(links.raw_links(messages))}


def test_a_vlan_device():
    """On which link, with which tag."""
    found = read(
        link(2, "eth0"),
        link(
            3,
            "eth0.7",
            (5, u32(2)),
            kind="vlan",
            data=nested((1, u16(7)), (5, struct.pack(">H", 0x88A8))),
        ),
    )["eth0.7"]
    assert (found.lower, found.vlan) == ("eth0", Vlan(vid=7, protocol="802.1ad"))


def test_a_bond_and_its_ports():
    """Which port is in use, and why the other is not."""
    data = nested(
        (1, u8(1)), (2, u32(3)), (3, u32(100)), (11, u32(2)), (14, u8(1)), (18, u32(1)), (21, u8(1))
    )
    found = read(
        link(4, "bond0", kind="bond", data=data),
        link(2, "eth0", (10, u32(4)), port_of="bond", port=nested((1, u8(1)), (2, u8(2)))),
        link(3, "eth1", (10, u32(4)), port_of="bond", port=nested((1, u8(0)), (3, u32(5)))),
    )
    assert found["bond0"].bond == Bond(
        mode="active-backup",
        active="eth1",
        primary="eth0",
        miimon=100,
        min_links=1,
        hash_policy="layer3+4",
    )
    assert found["eth0"].bond_port == BondPort(state="backup", mii_status="down")
    assert found["eth1"].bond_port == BondPort(failures=5)
    assert found["eth1"].master == "bond0"


def test_a_bond_that_speaks_lacp():
    """How often, and to which aggregator a port belongs."""
    found = read(
        link(4, "bond0", kind="bond", data=nested((1, u8(4)), (21, u8(1)))),
        link(2, "eth0", port_of="bond", port=nested((6, u16(3)))),
    )
    assert (found["bond0"].bond.mode, found["bond0"].bond.lacp_rate) == ("802.3ad", "fast")
    assert found["eth0"].bond_port.aggregator == 3


def test_a_vrf_and_an_ipvlan():
    """The table of the one, the mode of the other."""
    found = read(
        link(2, "red", kind="vrf", data=nested((1, u32(10)))),
        link(3, "ipv0", (5, u32(2)), kind="ipvlan", data=nested((1, u16(1)))),
        link(4, "odd", kind="ipvtap", data=nested((1, u16(9)))),
    )
    assert found["red"].vrf == Vrf(table=10)
    assert (found["ipv0"].ipvlan, found["ipv0"].lower) == (Ipvlan(mode="l3"), "red")
    assert found["odd"].ipvlan == Ipvlan(mode="9")


def test_virtual_functions():
    """What their physical NIC lets them do; what a driver does not tell is not known."""
    mac = bytes.fromhex("525400000001")
    told = nested(
        (1, struct.pack("=I32s", 0, mac)),
        (2, struct.pack("=III", 0, 100, 3)),
        (4, struct.pack("=II", 0, 1)),
        (5, struct.pack("=II", 0, 2)),
        (9, struct.pack("=II", 0, 0)),
    )
    untold = nested(
        (1, struct.pack("=I32s", 1, bytes(6))),
        (2, struct.pack("=III", 1, 0, 0)),
        (4, struct.pack("=II", 1, 0xFFFFFFFF)),
        (9, struct.pack("=II", 1, 0xFFFFFFFF)),
    )
    found = read(link(2, "eth0", (22, nested((1, told), (1, untold)))))["eth0"]
    assert found.virtual_functions == (
        VirtualFunction(
            index=0,
            mac="52:54:00:00:00:01",
            vlan=100,
            qos=3,
            spoof_check=True,
            trust=False,
            link_state="disable",
        ),
        VirtualFunction(index=1, mac="00:00:00:00:00:00"),
    )


def test_programs_at_several_doors():
    """One in the driver, one before it in the NIC; and what older kernels say of one."""
    several = nested((2, u8(4)), (5, u32(17)), (7, u32(18)))
    old = nested((2, u8(2)), (4, u32(9)))
    none = nested((2, u8(0)))
    found = read(link(2, "a", (43, several)), link(3, "b", (43, old)), link(4, "c", (43, none)))
    assert found["a"].xdp == (Xdp(mode="native", program=17), Xdp(mode="offload", program=18))
    assert found["b"].xdp == (Xdp(mode="generic", program=9),)
    assert found["c"].xdp == ()


def test_a_bridge_of_a_kernel_without_vlans():
    """What it does not mention is off."""
    found = read(link(2, "br0", kind="bridge", data=nested((5, u32(1)))))["br0"].bridge
    assert (found.stp, found.vlan_filtering, found.nf_call_iptables) == (True, False, False)


MODE = nested((1, u32(4)))


def test_a_bridge_with_vlan_filtering():
    """And the protocol of its tags."""
    data = nested((7, u8(1)), (8, struct.pack(">H", 0x8100)), (39, u16(5)))
    found = read(link(2, "br0", kind="bridge", data=data))["br0"].bridge
    assert (found.vlan_filtering, found.vlan_protocol, found.default_pvid) == (True, "802.1Q", 5)


def test_links_have_the_order_of_their_indexes():
    """Whatever order the kernel's table has."""
    assert list(read(link(9, "c"), link(2, "a"), link(4, "b"))) == ["a", "b", "c"]


def test_a_lower_link_in_another_namespace_is_not_one_of_ours():
    """Its index there may be that of a link here."""
    messages = (link(2, "a"), link(3, "m", (5, u32(2)), (37, u32(0)), kind="macvlan", data=MODE))
    assert read(*messages)["m"].lower is None
    (far,) = links.attachments(links.raw_links(messages))
    assert (far.name, far.nsid, far.far_index) == ("m", 0, 2)
