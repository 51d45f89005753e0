"""Decoding of what the kernel of a test machine may lack, from messages written by hand.

VLANs of bridges, large weights, shared filters, 802.11.
"""

from __future__ import annotations

import struct

from kvmdiag.collect.kernel import bridges, generic, routes, traffic_control
from kvmdiag.collect.kernel.nexthops import UnresolvedNextHop
from kvmdiag.model.link_kinds import (
    TcFilter,
    Wireless,
)
from kvmdiag.model.stack import BridgeVlan, NextHop, NexthopObject

from .netlink_messages import link, nested, u8, u16, u32


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
