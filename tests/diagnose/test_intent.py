"""Which paths are meant to work, told from facts alone."""

import msgspec
import pytest

from kvmdiag.diagnose.intent import intended_paths
from kvmdiag.model.activity import ListeningSocket
from kvmdiag.model.libvirt import Network
from kvmdiag.model.link import Bridge, BridgePort, Link, LinkRef
from kvmdiag.model.netfilter import Chain, Table
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import OWN_NETNS, Address, NextHop, Route, Stack
from kvmdiag.parse.iptables import parse_rule


def site(*, gateway: bool = True, networks=None, nat: bool = True, sockets=()) -> Snapshot:
    """A host with an uplink, a bridge and two guests on it; ``gateway``: guests have a default."""
    links = [
        Link(index=2, name="eth0", mac="02:00:00:00:00:02"),
        Link(index=3, name="br0", kind="bridge", mac="02:00:00:00:00:03", bridge=Bridge()),
    ]
    guests = []
    for number in (1, 2):
        name = f"vm{number}"
        links.append(
            Link(
                index=9 + number,
                name=f"vnet{number}",
                kind="veth",
                master="br0",
                port=BridgePort(),
                peer=LinkRef(name, "eth0"),
            )
        )
        guests.append(_guest(name, number, gateway))
    rule = parse_rule("-s 192.168.9.0/24 ! -d 192.168.9.0/24 -j MASQUERADE")
    chain = Chain(
        name="POSTROUTING", hook="postrouting", type="nat", priority=100, rules=(rule,) * nat
    )
    host = Stack(
        name="host",
        kind="host",
        netns=OWN_NETNS,
        links=tuple(links),
        addresses=(
            Address(link="eth0", address="10.0.0.10", prefix_length=24),
            Address(link="br0", address="192.168.9.1", prefix_length=24),
        ),
        routes=(
            Route(destination="0.0.0.0/0", next_hops=(NextHop(link="eth0", gateway="10.0.0.1"),)),
        ),
        tables=(Table(family="ip", name="nat", backend="iptables-nft", chains=(chain,)),),
        sockets=tuple(
            ListeningSocket(protocol="udp", address="0.0.0.0", port=port, uid=0, inode=1)
            for port in sockets
        ),
    )
    return Snapshot(
        tool="test",
        taken_at="2026-01-01T00:00:00Z",
        kernel="6.1",
        stacks=(host, *guests),
        networks=networks,
    )


def _guest(name: str, number: int, gateway: bool) -> Stack:
    default = Route(
        destination="0.0.0.0/0", next_hops=(NextHop(link="eth0", gateway="192.168.9.1"),)
    )
    return Stack(
        name=name,
        kind="namespace",
        netns=f"/run/netns/{name}",
        links=(Link(index=2, name="eth0", kind="veth", mac=f"52:54:00:00:00:0{number}"),),
        addresses=(Address(link="eth0", address=f"192.168.9.1{number}", prefix_length=24),),
        routes=(default,) * gateway,
        tables=(),
    )


def paths(snapshot: Snapshot) -> set[tuple[str, str | None, int | None]]:
    """Source, destination and port of each."""
    return {(p.source.text, p.destination.address, p.port) for p in intended_paths(snapshot)}


def test_gateway_outside_and_each_other():
    """What every guest of a NAT network is to reach."""
    assert {
        ("vm1", "192.168.9.1", None),
        ("vm1", "10.0.0.1", None),
        ("vm1", "192.168.9.12", None),
        ("vm2", "192.168.9.11", None),
        ("host", "10.0.0.1", None),
    } <= paths(site())


def test_a_guest_without_default_route_whose_network_is_translated_is_to_get_out():
    """Somebody made a way out for just this network."""
    assert ("vm1", "10.0.0.1", None) in paths(site(gateway=False))


def test_a_guest_without_default_route_on_a_network_nobody_translates_is_not():
    """Nothing shows that it should."""
    assert ("vm1", "10.0.0.1", None) not in paths(site(gateway=False, nat=False))


@pytest.mark.parametrize(("mode", "meant"), [("nat", True), ("route", True), (None, False)])
def test_libvirts_word_counts(mode, meant):
    """An isolated network is not meant to lead out, be a rule there or not."""
    network = Network(
        name="n", active=True, bridge="br0", mode=mode, addresses=("192.168.9.1/24",), dns=False
    )
    assert (("vm1", "10.0.0.1", None) in paths(site(gateway=False, networks=(network,)))) is meant
    assert (("vm1", "10.0.0.1", None) in paths(site(networks=(network,)))) is meant


def test_dhcp_and_dns_where_somebody_serves_them():
    """By libvirt's word, or because a program listens on the host."""
    network = Network(
        name="n", active=True, bridge="br0", mode="nat", addresses=("192.168.9.1/24",), dhcp=True
    )
    both = {("vm1", "192.168.9.1", 53), ("vm1", "192.168.9.1", 67)}
    assert both <= paths(site(networks=(network,)))
    assert both <= paths(site(sockets=(53, 67)))
    assert not both & paths(site())
    assert not both & paths(site(sockets=(53,))), "a resolver alone serves no guests"


def test_the_dhcp_of_a_libvirt_network_is_not_meant_for_other_bridges():
    """Its socket hears all addresses; it is bound to the network's own bridge."""
    elsewhere = Network(
        name="default", active=True, bridge="virbr0", mode="nat", addresses=(), dhcp=True
    )
    asked = {port for _, _, port in paths(site(networks=(elsewhere,), sockets=(53, 67)))}
    assert asked == {None}


def test_isolated_ports_are_not_meant_to_meet():
    """Both have the flag; each still reaches its gateway."""
    snapshot = site()
    host = snapshot.stack("host")
    links = tuple(
        msgspec.structs.replace(link, port=BridgePort(isolated=True)) if link.port else link
        for link in host.links
    )
    found = paths(snapshot.with_stack(msgspec.structs.replace(host, links=links)))
    assert ("vm1", "192.168.9.12", None) not in found
    assert ("vm1", "192.168.9.1", None) in found


def test_a_standby_default_route_leads_nowhere_yet():
    """Guests need not reach the gateway of an uplink not in use; the host itself must."""
    snapshot = site()
    host = snapshot.stack("host")
    standby = Route(
        destination="0.0.0.0/0",
        metric=101,
        next_hops=(NextHop(link="eth1", gateway="172.16.0.1"),),
    )
    snapshot = snapshot.with_stack(msgspec.structs.replace(host, routes=(*host.routes, standby)))
    assert ("vm1", "10.0.0.1", None) in paths(snapshot)
    assert ("vm1", "172.16.0.1", None) not in paths(snapshot)
    assert ("host", "172.16.0.1", None) in paths(snapshot)


def test_each_nic_with_a_default_route_is_to_lead_out():
    """Whichever NIC a program of the guest is bound to, its own default route is to be good."""
    snapshot = site()
    guest = snapshot.stack("vm1")
    second = Route(
        destination="0.0.0.0/0",
        metric=100,
        next_hops=(NextHop(link="eth1", gateway="192.168.9.1"),),
    )
    twice = msgspec.structs.replace(
        guest,
        links=(*guest.links, msgspec.structs.replace(guest.links[0], index=3, name="eth1")),
        addresses=(
            *guest.addresses,
            Address(link="eth1", address="192.168.9.21", prefix_length=24),
        ),
        routes=(*guest.routes, second),
    )
    found = paths(snapshot.with_stack(twice))
    assert {("vm1:eth0", "10.0.0.1", None), ("vm1:eth1", "10.0.0.1", None)} <= found
    assert not any(source.startswith(("vm2:", "host:")) for source, _, _ in found)


def dual() -> Snapshot:
    """The same host with IPv6 as routers announce it: gateways known by link-local addresses."""
    snapshot = site()
    stacks = []
    for stack in snapshot.stacks:
        home = "fd00:9::{}" if stack.name != "host" else "fd00:10::{}"
        link = "eth0"
        number = stack.name[-1:].encode().hex()
        own = Address(link=link, address=home.format(number), prefix_length=64)
        more = [own]
        if stack.name == "host":
            more.append(Address(link="br0", address="fd00:9::1", prefix_length=64))
        way = Route(destination="::/0", next_hops=(NextHop(link=link, gateway="fe80::1"),))
        stacks.append(
            msgspec.structs.replace(
                stack, addresses=(*stack.addresses, *more), routes=(*stack.routes, way)
            )
        )
    return msgspec.structs.replace(snapshot, stacks=tuple(stacks))


def test_ipv6_is_judged_beside_ipv4():
    """Each other by both; out by an address beyond, where the gateway has none but its link's."""
    found = paths(dual())
    assert ("vm1", "fd00:9::32", None) in found
    assert ("vm1", "192.168.9.12", None) in found
    assert ("vm1", "2001:db8::1", None) in found
    assert not [path for path in found if path[1].startswith("fe80")]


def test_a_proxied_gateway_is_not_asked_for_itself():
    """169.254.1.1 is nobody's address: whoever proxies for it answers no ping."""
    snapshot = site()
    guest = snapshot.stack("vm1")
    way = Route(destination="0.0.0.0/0", next_hops=(NextHop(link="eth0", gateway="169.254.1.1"),))
    found = paths(snapshot.with_stack(msgspec.structs.replace(guest, routes=(way,))))
    assert ("vm1", "169.254.1.1", None) not in found
    assert ("vm1", "10.0.0.1", None) in found
