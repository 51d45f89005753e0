"""Routes of every table and nexthop objects: set with ip, found in the snapshot."""

from __future__ import annotations

import pytest

from kvmdiag.model.stack import NextHop, NexthopObject

from .reading import read


def route(host, destination):
    """The only route to that destination."""
    (found,) = (route for route in read(host).routes if route.destination == destination)
    return found


def test_a_route_with_all_its_properties(router):
    """Table, metric, MTU, source address, who made it."""
    router.ip(
        "route add 203.0.113.0/24 via 192.0.2.9 dev br0 table 77 metric 5 mtu 1300"
        " src 192.0.2.1 proto static onlink"
    )
    found = route(router, "203.0.113.0/24")
    assert (found.table, found.metric, found.mtu, found.preferred_source, found.protocol) == (
        77,
        5,
        1300,
        "192.0.2.1",
        "static",
    )
    assert found.next_hops == (
        NextHop(link="br0", gateway="192.0.2.9", flags=frozenset({"onlink"})),
    )


def test_default_routes_of_both_versions(router):
    """A default has a destination like any other."""
    router.ip("route add default via 192.0.2.9", "route add default via 2001:db8::9 dev br0")
    assert route(router, "0.0.0.0/0").next_hops == (NextHop(link="br0", gateway="192.0.2.9"),)
    assert route(router, "::/0").next_hops == (NextHop(link="br0", gateway="2001:db8::9"),)


@pytest.mark.parametrize("kind", ["blackhole", "unreachable", "prohibit", "throw"])
def test_routes_that_say_no(router, kind):
    """They lead nowhere, each in its own way."""
    router.ip(f"route add {kind} 203.0.113.0/24")
    found = route(router, "203.0.113.0/24")
    assert (found.type, found.next_hops) == (kind, ())


def test_the_kernels_own_routes(router):
    """The local table is read like the others."""
    local = route(router, "192.0.2.1/32")
    assert (local.type, local.table, local.scope, local.protocol) == (
        "local",
        255,
        "host",
        "kernel",
    )


def test_a_route_with_several_next_hops(router):
    """With their weights."""
    router.ip(
        "route add 203.0.113.0/24 nexthop via 192.0.2.8 weight 3 nexthop via 192.0.2.9 weight 1"
    )
    assert route(router, "203.0.113.0/24").next_hops == (
        NextHop(link="br0", gateway="192.0.2.8", weight=3),
        NextHop(link="br0", gateway="192.0.2.9"),
    )


def test_an_ipv4_route_through_an_ipv6_gateway(router):
    """RFC 5549."""
    router.ip("route add 203.0.113.0/24 via inet6 fe80::9 dev br0")
    assert route(router, "203.0.113.0/24").next_hops == (NextHop(link="br0", gateway="fe80::9"),)


def test_a_route_limited_to_a_source(router):
    """It does not apply to other packets."""
    router.ip("route add 2001:db8:9::/48 from 2001:db8::/64 via 2001:db8::9 dev br0")
    assert route(router, "2001:db8:9::/48").source == "2001:db8::/64"


def test_nexthop_objects_are_resolved(router):
    """A route by number leads where the object leads; a group is several next hops."""
    router.ip(
        "nexthop add id 1 via 192.0.2.8 dev br0",
        "nexthop add id 2 via 192.0.2.9 dev br0",
        "nexthop add id 3 group 1/2,3",
        "route add 203.0.113.0/24 nhid 1",
        "route add 198.51.100.0/24 nhid 3",
    )
    assert route(router, "203.0.113.0/24").next_hops == (NextHop(link="br0", gateway="192.0.2.8"),)
    assert [hop.weight for hop in route(router, "198.51.100.0/24").next_hops] == [1, 3]


def test_nexthop_objects_the_kernel_does_not_resolve(router):
    """With nexthop_compat_mode off it tells the number alone; the routes are the same."""
    router.ip(
        "nexthop add id 1 via 192.0.2.8 dev br0",
        "nexthop add id 2 via 192.0.2.9 dev br0",
        "nexthop add id 3 group 1,7/2,200",
        "nexthop add id 4 blackhole",
        "nexthop add id 5 via 2001:db8::9 dev br0",
        "route add 203.0.113.0/24 nhid 1",
        "route add 198.51.100.0/24 nhid 3",
        "route add 198.18.0.0/15 nhid 4",
        "route add 2001:db8:9::/48 nhid 5",
    )
    resolved = read(router).routes
    router.sysctl("net.ipv4.nexthop_compat_mode", 0)
    assert read(router).routes == resolved
    assert route(router, "203.0.113.0/24").nexthop == 1
    assert [hop.weight for hop in route(router, "198.51.100.0/24").next_hops] == [7, 200]
    assert (route(router, "198.18.0.0/15").type, route(router, "198.18.0.0/15").next_hops) == (
        "blackhole",
        (),
    )


def test_nexthop_objects_themselves(router):
    """Ways out, holes and groups, by rising number."""
    router.ip(
        "nexthop add id 9 via 192.0.2.8 dev br0",
        "nexthop add id 2 blackhole",
        "nexthop add id 7 group 9,3",
    )
    assert read(router).nexthops == (
        NexthopObject(id=2, blackhole=True),
        NexthopObject(id=7, group=((9, 3),)),
        NexthopObject(id=9, next_hop=NextHop(link="br0", gateway="192.0.2.8")),
    )
