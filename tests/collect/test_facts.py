"""Each kind of fact: set with ip, bridge or sysctl in a namespace, found in the snapshot."""

from __future__ import annotations

import re
import threading

import msgspec
import pytest

from kvmdiag.collect.scope import Scope
from kvmdiag.collect.snapshot import collect
from kvmdiag.model.link import Bridge, BridgePort, LinkRef, Tap, Vlan
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Address, FdbEntry, NextHop, NexthopObject, Stack


@pytest.fixture
def host(namespaces):
    """A namespace that plays the host."""
    return namespaces("host")


def read(host) -> Stack:
    """The host's stack."""
    return snapshot(host).stack("host")


def snapshot(host) -> Snapshot:
    """The snapshot of the host and of what belongs to it."""
    return collect(Scope(host=host.path, libvirt=False))


def link(host, name):
    """The link of that name."""
    return next(link for link in read(host).links if link.name == name)


def test_loopback_is_known_as_such(host):
    """A new namespace has it, and it is down."""
    lo = link(host, "lo")
    assert (lo.is_loopback, lo.up, lo.kind, lo.mtu) == (True, False, None, 65536)


def test_state_mtu_and_address_of_a_link(host):
    """As ``ip link`` shows them."""
    host.ip("link add br0 address 02:00:00:00:00:99 mtu 1400 type bridge")
    down = link(host, "br0")
    assert (down.mac, down.mtu, down.up, down.operstate) == (
        "02:00:00:00:00:99",
        1400,
        False,
        "down",
    )
    host.ip("link set br0 up")
    assert link(host, "br0").up


def test_settings_of_a_bridge(host):
    """Those that decide what it does with a frame."""
    host.ip(
        "link add br0 type bridge stp_state 1 forward_delay 400 nf_call_iptables 1"
        " nf_call_ip6tables 1 nf_call_arptables 1 mcast_snooping 0 group_fwd_mask 8"
    )
    assert link(host, "br0").bridge == Bridge(
        stp=True,
        forward_delay=400,
        nf_call_iptables=True,
        nf_call_ip6tables=True,
        nf_call_arptables=True,
        multicast_snooping=False,
        group_fwd_mask=8,
    )


def test_settings_of_a_bridge_port(host):
    """Its master, and what the bridge may do with it."""
    host.ip(
        "link add br0 type bridge",
        "link add v1 type veth peer name v2",
        "link set v1 master br0",
        "link set v1 type bridge_slave isolated on hairpin on learning off flood off",
    )
    port = link(host, "v1")
    assert (port.kind, port.master) == ("veth", "br0")
    assert port.port == BridgePort(
        state="disabled", isolated=True, hairpin=True, learning=False, flood=False
    )
    assert link(host, "v2").port is None


def test_a_port_in_use_forwards(host, eventually):
    """Once both ends are up."""
    host.ip(
        "link add br0 up type bridge",
        "link add v1 type veth peer name v2",
        "link set v1 master br0 up",
        "link set v2 up",
    )
    eventually(
        lambda: (link(host, "v1").port.state, link(host, "v1").operstate) == ("forwarding", "up"),
        "the port never forwarded",
    )
    assert link(host, "v1").carrier


def test_taps_and_tuns(host):
    """Told apart, with whether they outlive their reader."""
    host.ip("tuntap add tap0 mode tap", "tuntap add tun0 mode tun")
    tap, tun = link(host, "tap0"), link(host, "tun0")
    # Nobody reads them, or somebody whose open files are hidden even from root.
    for found in (tap, tun):
        assert found.tap.readers in ((), None)
    one, other = (msgspec.structs.replace(found.tap, readers=None) for found in (tap, tun))
    assert (tap.kind, one) == ("tun", Tap(mode="tap", persistent=True))
    assert (tun.type, other) == ("none", Tap(mode="tun", persistent=True))


def test_a_vlan_on_its_lower_link(host):
    """A dot in its name is only a name, and a slash in a sysctl's."""
    host.ip("link add br0 type bridge")
    done = host.run("ip link add link br0 name br0.100 type vlan id 100", check=False)
    if done.returncode:
        pytest.skip("this kernel has no VLAN devices")
    vlan = link(host, "br0.100")
    assert (vlan.lower, vlan.vlan) == ("br0", Vlan(vid=100))
    assert read(host).sysctls["net.ipv4.conf.br0/100.rp_filter"] == "0"


def test_addresses_in_the_kernels_order(host):
    """Primary and secondary, scopes, far ends, both versions."""
    host.ip(
        "link add br0 type bridge",
        "addr add 192.0.2.1/24 dev br0",
        "addr add 192.0.2.2/24 dev br0",
        "addr add 198.51.100.1 peer 198.51.100.9/32 dev br0 scope link",
        "addr add 2001:db8::1/64 dev br0 nodad",
    )
    found = read(host).addresses
    shown = host.run("ip -o addr").stdout
    assert [a.address for a in found] == re.findall(r"inet6? ([0-9a-f.:]+)", shown)
    assert set(found) == {
        Address(link="br0", address="192.0.2.1", prefix_length=24),
        Address(link="br0", address="192.0.2.2", prefix_length=24, secondary=True),
        Address(
            link="br0", address="198.51.100.1", prefix_length=32, scope="link", peer="198.51.100.9"
        ),
        Address(link="br0", address="2001:db8::1", prefix_length=64, flags=frozenset({"nodad"})),
    }


@pytest.fixture
def router(host):
    """A host with br0 up and an address to route from."""
    host.ip(
        "link set lo up",
        "link add br0 up type bridge",
        "addr add 192.0.2.1/24 dev br0",
        "addr add 2001:db8::1/64 dev br0 nodad",
    )
    return host


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


def policy(host, priority):
    """The only rule of that priority."""
    (found,) = (rule for rule in read(host).policy_rules if rule.priority == priority)
    return found


def test_the_rules_every_namespace_has(host):
    """local, main and default, and what IPv6 has of them."""
    rules = read(host).policy_rules
    assert [(r.version, r.priority, r.table) for r in rules] == [
        (4, 0, 255),
        (4, 32766, 254),
        (4, 32767, 253),
        (6, 0, 255),
        (6, 32766, 254),
    ]


def test_a_rule_with_all_its_selectors(host):
    """Each of them is understood."""
    host.ip(
        "rule add pref 100 from 10.0.0.0/8 to 192.0.2.0/24 iif a0 oif b0 fwmark 0x1/0xff tos 0x10"
        " ipproto tcp sport 1000-2000 dport 80 lookup 1000"
    )
    rule = policy(host, 100)
    assert (rule.source, rule.destination, rule.iif, rule.oif) == (
        "10.0.0.0/8",
        "192.0.2.0/24",
        "a0",
        "b0",
    )
    assert (rule.fwmark, rule.fwmask, rule.tos, rule.protocol) == (1, 0xFF, 0x10, "tcp")
    assert (rule.source_ports, rule.destination_ports) == ((1000, 2000), (80, 80))
    assert (rule.action, rule.table, rule.unknown) == ("lookup", 1000, ())


def test_rules_that_do_something_else(host):
    """Inverted, refusing, jumping, or ignoring a default route."""
    host.ip(
        "rule add pref 100 not from 10.0.0.0/8 lookup 77 suppress_prefixlength 0",
        "rule add pref 101 goto 32766",
        "rule add pref 102 from 10.0.0.1 prohibit",
    )
    host.run("ip -6 rule add pref 103 from 2001:db8::/32 blackhole")
    inverted = policy(host, 100)
    assert (inverted.invert, inverted.suppress_prefix_length, inverted.unknown) == (True, 0, ())
    assert (policy(host, 101).action, policy(host, 101).goto) == ("goto", 32766)
    assert (policy(host, 102).action, policy(host, 102).table) == ("prohibit", None)
    assert (policy(host, 103).action, policy(host, 103).version) == ("blackhole", 6)


def test_selectors_that_are_not_understood_are_named(host):
    """Such a rule may or may not apply."""
    host.ip("rule add pref 100 uidrange 0-100 lookup 77")
    assert policy(host, 100).unknown == ("uidrange",)


def test_neighbours_of_both_versions(router):
    """Their MAC and their state; those answered for others are marked."""
    router.ip(
        "neigh add 192.0.2.7 lladdr 02:00:00:00:00:07 dev br0 nud permanent",
        "neigh add 2001:db8::7 lladdr 02:00:00:00:00:07 dev br0 nud stale",
        "neigh add proxy 192.0.2.77 dev br0",
    )
    found = {
        (n.address, n.mac, n.state, n.proxy) for n in read(router).neighbours if n.link == "br0"
    }
    assert found == {
        ("192.0.2.7", "02:00:00:00:00:07", "permanent", False),
        ("2001:db8::7", "02:00:00:00:00:07", "stale", False),
        ("192.0.2.77", None, "none", True),
    }


def test_what_a_bridge_has_learnt(host):
    """Its own entries, not the filter lists of the devices."""
    host.ip(
        "link add br0 up type bridge",
        "link add v1 address 02:00:00:00:00:01 type veth peer name v2",
        "link set v1 master br0 up",
        "link set v2 up",
    )
    host.run("bridge fdb add 02:00:00:00:00:05 dev v1 master static")
    host.run("bridge fdb add 02:00:00:00:00:06 dev v1 master dynamic")
    host.run("bridge fdb add 02:00:00:00:00:07 dev v1 self")
    entries = {
        entry.mac: entry for entry in read(host).fdb if entry.mac.startswith("02:00:00:00:00:")
    }
    assert entries == {
        "02:00:00:00:00:01": FdbEntry(bridge="br0", port="v1", mac="02:00:00:00:00:01", local=True),
        "02:00:00:00:00:05": FdbEntry(
            bridge="br0", port="v1", mac="02:00:00:00:00:05", static=True
        ),
        "02:00:00:00:00:06": FdbEntry(bridge="br0", port="v1", mac="02:00:00:00:00:06"),
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv4.conf.br0.forwarding", "1"),
        ("net.ipv4.conf.all.rp_filter", "2"),
        ("net.ipv4.conf.br0.arp_ignore", "8"),
        ("net.ipv4.icmp_echo_ignore_all", "1"),
        ("net.ipv6.conf.br0.disable_ipv6", "1"),
        ("net.ipv4.fib_multipath_hash_policy", "1"),
    ],
)
def test_sysctls_are_those_of_the_namespace(router, name, value):
    """Not of the namespace the program was started in."""
    assert read(router).sysctls[name] != value
    router.sysctl(name, value)
    assert read(router).sysctls[name] == value


def test_cables_within_a_namespace(host):
    """Both ends know each other."""
    host.ip("link add v1 type veth peer name v2")
    assert link(host, "v1").peer == LinkRef("host", "v2")
    assert link(host, "v2").peer == LinkRef("host", "v1")


def test_reading_happens_in_a_thread_too(host):
    """Threads have their own namespace, and so has what is read in one."""
    host.ip("link add only0 type bridge")
    found = []
    thread = threading.Thread(target=lambda: found.append(read(host)))
    thread.start()
    thread.join()
    assert "only0" in {link.name for link in found[0].links}
