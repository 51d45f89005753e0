"""Decoding of what the kernel says, on messages written by hand as include/uapi/linux has them.

For what the kernel of a test machine may lack: VLANs, bonds, VRFs, SR-IOV, 802.11.
"""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmdiag.collect import (
    addresses,
    bridges,
    flows,
    generic,
    links,
    routes,
    traffic_control,
)
from kvmdiag.collect.attributes import attribute, decode, each, nest, number, raw
from kvmdiag.collect.nexthops import UnresolvedNextHop
from kvmdiag.collect.policy_rules import policy_rules
from kvmdiag.model.link import Vlan
from kvmdiag.model.link_kinds import (
    Bond,
    BondPort,
    Ipvlan,
    TcFilter,
    VirtualFunction,
    Vrf,
    Wireless,
    Xdp,
)
from kvmdiag.model.stack import BridgeVlan, NextHop, NexthopObject


def u8(value):
    """One byte."""
    return struct.pack("=B", value)


def u16(value):
    """Two bytes in the machine's order."""
    return struct.pack("=H", value)


def u32(value):
    """Four bytes in the machine's order."""
    return struct.pack("=I", value)


def nested(*pairs):
    """Attributes within an attribute: (number, bytes)."""
    return b"".join(attribute(kind, value) for kind, value in pairs)


def link(index, name, *more, kind=None, data=b"", port_of=None, port=b"", family=0):
    """An RTM_NEWLINK message (struct ifinfomsg and attributes)."""
    info = []
    if kind is not None:
        info += [(1, kind.encode() + b"\0"), (2, data)]
    if port_of is not None:
        info += [(4, port_of.encode() + b"\0"), (5, port)]
    pairs = [(3, name.encode() + b"\0"), (4, u32(1500)), *more]
    if info:
        pairs.append((18, nested(*info)))
    return struct.pack("=BxHiII", family, 1, index, 1, 0) + nested(*pairs)


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


MODE = nested((1, u32(4)))


def test_vlans_of_bridge_ports():
    """Single ones, and ranges by their ends."""
    info = nested(
        (2, struct.pack("=HH", 0x06, 1)),
        (2, struct.pack("=HH", 0x08, 10)),
        (2, struct.pack("=HH", 0x10, 12)),
    )
    message = link(3, "vnet0", (26, info), family=7)
    bridge = link(2, "br0", (26, nested((2, struct.pack("=HH", 0x26, 1)))), family=7)
    assert bridges.vlans((message, bridge)) == (
        BridgeVlan(link="br0", vid=1, pvid=True, untagged=True),
        BridgeVlan(link="vnet0", vid=1, pvid=True, untagged=True),
        BridgeVlan(link="vnet0", vid=10),
        BridgeVlan(link="vnet0", vid=11),
        BridgeVlan(link="vnet0", vid=12),
    )


def test_a_vlan_of_the_fdb():
    """Of which the same address may be elsewhere in another."""
    head = struct.pack("=BxxxiHBB", 7, 3, 2, 0, 0)
    entry = nested((2, bytes.fromhex("525400000001")), (5, u16(7)), (9, u32(2)))
    (found,) = bridges.fdb((head + entry,), {2: "br0", 3: "vnet0"})
    assert (found.bridge, found.port, found.vlan) == ("br0", "vnet0", 7)


def test_a_weight_above_255():
    """Its upper byte is elsewhere (struct nexthop_grp of 6.12)."""
    head = struct.pack("=BBBBI", 0, 0, 0, 0, 0)
    message = head + nested((1, u32(3)), (2, struct.pack("=IBBH", 1, 43, 1, 0)))
    assert routes.nexthops((message,), {}) == (NexthopObject(id=3, group=((1, 300),)),)


def test_a_route_by_a_number_nobody_knows():
    """Is not a route to nowhere."""
    head = struct.pack("=8BI", 2, 24, 0, 0, 254, 4, 0, 1, 0)
    message = head + nested((1, bytes([192, 0, 2, 0])), (30, u32(7)))
    known = (NexthopObject(id=7, next_hop=NextHop(link="eth0")),)
    (route,) = routes.routes((message,), {}, known)
    assert route.next_hops == (NextHop(link="eth0"),)
    try:
        routes.routes((message,), {}, ())
    except UnresolvedNextHop as error:
        assert "object 7" in str(error)  # noqa: PT017 - the other way out is an error
    else:
        raise AssertionError("it was taken for a route")


def test_filters_of_a_shared_block():
    """Are asked for by the block's number, and hang on every link that uses it."""
    head = struct.pack("=BxxxiIII", 0, 2, 0xFFFF0000, 0xFFFFFFF1, 0)
    qdisc = head + nested((1, b"clsact\0"), (13, u32(22)))
    ordered, hooks = traffic_control.qdiscs((qdisc,), {2: "eth0"})
    assert ordered[2][0].kind == "clsact"
    assert [hook.asked for hook in hooks] == [(-1, 22), (2, 0xFFFFFFF3)]
    options = nested((3, nested((1, nested((1, b"gact\0"))))))
    answer = struct.pack("=BxxxiIII", 0, -1, 1, 22, 5 << 16 | 8) + nested(
        (1, b"flower\0"), (2, options), (11, u32(4))
    )
    assert traffic_control.filters({(-1, 22): [answer]}, hooks, {2: "eth0"}) == {
        2: (
            TcFilter(
                where="ingress",
                kind="flower",
                priority=5,
                protocol=0x0800,
                handle=1,
                chain=4,
                actions=("gact",),
            ),
        )
    }


def test_a_program_that_decides_itself():
    """As those of Cilium do."""
    head = struct.pack("=BxxxiIII", 0, 2, 0xFFFF0000, 0xFFFFFFF1, 0) + nested((1, b"clsact\0"))
    _, hooks = traffic_control.qdiscs((head,), {2: "eth0"})
    options = nested((7, b"cil_from_netdev\0"), (8, u32(1)))
    answer = struct.pack("=BxxxiIII", 0, 2, 1, 0xFFFFFFF2, 1 << 16 | 0x300) + nested(
        (1, b"bpf\0"), (2, options)
    )
    (found,) = traffic_control.filters({(2, 0xFFFFFFF2): [answer]}, hooks, {2: "eth0"})[2]
    assert (found.program, found.direct_action, found.protocol) == ("cil_from_netdev", True, 3)


def test_stations_and_access_points():
    """A station carries frames of others only with four addresses."""
    head = struct.pack("=BBH", 7, 1, 0)
    station = head + nested((3, u32(3)), (5, u32(2)), (83, u8(0)))
    point = head + nested((3, u32(4)), (5, u32(3)), (83, u8(1)))
    p2p = head + nested((5, u32(10)))
    assert generic.wireless((station, point, p2p)) == {
        3: Wireless(mode="managed"),
        4: Wireless(mode="AP", four_addresses=True),
    }


def test_more_features_than_fit_a_word():
    """Bits are counted through."""
    features = struct.pack("=BBH", 11, 1, 0) + nested(
        (1, nested((1, u32(3)))), (4, nested((4, u32(1) + u32(2))))
    )
    names = {0: "tx-one", 1: "tx-two", 33: "a-late-one", 90: "beyond"}
    assert generic.offloads((features,), names) == {3: ("a-late-one", "tx-one")}


def test_only_what_a_layout_names_is_decoded():
    """By name, nested where it says so, of any size."""
    data = nested((1, u32(7)), (9, b"other"), (2 | 0x8000, nested((1, u8(3)))))
    layout = {1: ("one", number), 2: ("two", nest({1: ("inner", number)}))}
    assert decode(data, layout) == {"one": 7, "two": {"inner": 3}}


@given(st.binary(max_size=200))
def test_no_bytes_upset_the_decoder(data):
    """It ends where there is no attribute any more."""
    everything = {kind: (str(kind), raw) for kind in range(0x4000)}
    found = decode(data, everything)
    assert found == {str(kind): value for kind, value in each(data)}


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40)), max_size=8))
def test_what_is_written_is_read(pairs):
    """Each attribute, in its order."""
    assert list(each(nested(*pairs))) == pairs


DECODERS = {
    "links": lambda messages: links.links(links.raw_links(messages)),
    "counters": links.counters,
    "addresses": lambda messages: addresses.addresses(messages, NAMES),
    "neighbours": lambda messages: addresses.neighbours(messages, messages, NAMES),
    "fdb": lambda messages: bridges.fdb(messages, NAMES),
    "tunnels": lambda messages: bridges.tunnels(messages, NAMES),
    "vlans": bridges.vlans,
    "mdb": lambda messages: bridges.mdb(messages, NAMES),
    "routes": lambda messages: routes.routes(messages, NAMES),
    "nexthops": lambda messages: routes.nexthops(messages, NAMES),
    "policy rules": policy_rules,
    "qdiscs": lambda messages: traffic_control.qdiscs(messages, NAMES),
    "wireless": generic.wireless,
    "flows": lambda messages: list(flows.find(messages, ("192.0.2.1", "192.0.2.2"))),
}
NAMES = {0: "lo", 1: "eth0"}
ATTRIBUTES = st.recursive(
    st.binary(max_size=20),
    lambda inner: st.lists(st.tuples(st.integers(0, 60), inner), max_size=4).map(
        lambda pairs: nested(*pairs)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("name", DECODERS)
@given(head=st.binary(max_size=16), rest=ATTRIBUTES)
def test_whatever_a_kernel_says_is_decoded_or_refused(name, head, rest):
    """Refused by the errors that become a gap, and by no other."""
    with suppress(OSError, LookupError, ValueError, struct.error):
        DECODERS[name]((head + rest, head.ljust(12, b"\0") + rest, head.ljust(16, b"\0") + rest))
