"""Guests that cannot be looked into are walked all the same, and what is assumed is said."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from kvmdiag.model.guest import Inside
from kvmdiag.model.libvirt import Domain, GuestNic, Lease, Network
from kvmdiag.model.link import Bridge, BridgePort, Link, LinkRef
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import (
    Address,
    Neighbour,
    NextHop,
    PolicyRule,
    Route,
    Stack,
)
from kvmdiag.model.trace import Outcome, Reason
from kvmdiag.simulate.endpoints import GuestOffError, resolve
from kvmdiag.simulate.facts.unseen import assume_guests
from kvmdiag.simulate.walk import walk

_WEB, _DB = "52:54:00:00:00:01", "52:54:00:00:00:02"


def tap(index, name, master="virbr0"):
    """A tap of a guest that runs."""
    port = BridgePort() if master else None
    mac = f"fe:54:00:00:00:0{index}"
    return Link(index=index, name=name, kind="tun", mac=mac, master=master, port=port)


def route(destination, link, *, gateway=None, table=254, kind="unicast"):
    """A route of the host."""
    hop = NextHop(link=link, gateway=gateway)
    return Route(destination=destination, table=table, type=kind, next_hops=(hop,))


_RULES = tuple(
    PolicyRule(priority=priority, table=table) for priority, table in ((0, 255), (32766, 254))
)
_HOST = Stack(
    name="host",
    kind="host",
    netns="/proc/self/ns/net",
    links=(
        Link(index=1, name="eno1", mac="52:54:00:10:00:10"),
        Link(index=2, name="virbr0", kind="bridge", mac="52:54:00:00:00:ff", bridge=Bridge()),
        replace(tap(3, "vnet0"), guest="web"),
        replace(tap(4, "vnet1"), guest="db"),
    ),
    addresses=(
        Address(link="eno1", address="10.0.0.10", prefix_length=24),
        Address(link="virbr0", address="192.168.122.1", prefix_length=24),
    ),
    routes=(
        route("10.0.0.10/32", "eno1", table=255, kind="local"),
        route("192.168.122.1/32", "virbr0", table=255, kind="local"),
        route("10.0.0.0/24", "eno1"),
        route("192.168.122.0/24", "virbr0"),
    ),
    policy_rules=_RULES,
    neighbours=(
        Neighbour(link="virbr0", address="192.168.122.22", mac=_DB, state="reachable"),
        Neighbour(link="virbr0", address="192.168.122.77", mac=_DB, state="failed"),
    ),
    fdb=(),
    sysctls={"net.ipv4.conf.virbr0.forwarding": "1", "net.ipv4.conf.eno1.forwarding": "1"},
    tables=(),
)


def domain(name, mac, tap_name, **more):
    """A running domain on network default."""
    nic = GuestNic(type="network", mac=mac, source="default", target=tap_name)
    return Domain(name=name, state="running", nics=(nic,), **more)


@pytest.fixture
def snapshot():
    """Two guests without agents; one has a lease, the other only a neighbour entry."""
    return Snapshot(
        tool="t",
        taken_at="t",
        kernel="k",
        stacks=(_HOST,),
        domains=(domain("web", _WEB, "vnet0"), domain("db", _DB, "vnet1")),
        networks=(
            Network(
                name="default",
                active=True,
                bridge="virbr0",
                mode="nat",
                addresses=("192.168.122.1/24",),
                dhcp=True,
                leases=(Lease(mac=_WEB, address="192.168.122.11"),),
            ),
        ),
    )


def asked(snapshot, source, destination):
    """The walk between two names."""
    assumed = assume_guests(snapshot)
    return walk(assumed, resolve(assumed, source, destination))


def test_the_walk_starts_behind_the_tap_and_leaves(snapshot):
    """By the gateway that DHCP names, from the address that DHCP gave."""
    way = asked(snapshot, "web", "10.0.0.9")
    assert way.request.outcome is Outcome.LEFT
    assert str(way.request.end.packet.src) == "192.168.122.11"
    assert next(hop.link for hop in way.request.hops if hop.stack == "host") == "vnet0"


def test_what_is_assumed_is_said(snapshot):
    """Where the address and the gateway are from, and that the inside was not seen."""
    said = asked(snapshot, "web", "10.0.0.9").request.assumptions
    assert "web has the address 192.168.122.11: DHCP of network default has given it away" in said
    assert "web's gateway is 192.168.122.1: DHCP of network default says so" in said
    assert "nothing inside web stops the packet: it could not be looked into" in said


def test_of_a_guest_that_was_read_in_part_only_the_rest_is_assumed(snapshot):
    """Its agent answered, and not to the end: what is known of it is not called unseen."""
    inside = Stack(
        name="web",
        kind="guest",
        netns=None,
        links=(Link(index=2, name="ens3", mac=_WEB, peer=LinkRef("host", "vnet0")),),
        addresses=(Address(link="ens3", address="192.168.122.11", prefix_length=24),),
        routes=(),
        policy_rules=_RULES,
    )
    facts = replace(
        snapshot,
        stacks=(*snapshot.stacks, inside),
        guests=(Inside(domain="web", access="full", stack="web"),),
    )
    said = "its settings, netfilter rules could not be looked into"
    assert any(said in text for text in assume_guests(facts).stack("web").assumed)


def test_a_neighbour_entry_tells_an_address_if_it_is_good(snapshot):
    """One that failed tells nothing."""
    way = asked(snapshot, "web", "db")
    assert way.question.destination.address == "192.168.122.22"
    assert (way.request.outcome, way.request.end.stack) == (Outcome.DELIVERED, "db")
    assert way.reply.outcome is Outcome.DELIVERED


def test_a_tap_that_is_plugged_in_nowhere_is_no_way(snapshot):
    """The fault on the host is found although nothing inside is seen."""
    links = tuple(
        replace(link, master=None, port=None) if link.name == "vnet0" else link
        for link in _HOST.links
    )
    broken = replace(snapshot, stacks=(replace(_HOST, links=links),))
    assert asked(broken, "db", "web").works is False


def test_whether_an_unseen_guest_forwards_is_not_known(snapshot):
    """It is no fault that it might not."""
    routes = (*_HOST.routes, route("198.51.100.0/24", "virbr0", gateway="192.168.122.22"))
    routed = replace(snapshot, stacks=(replace(_HOST, routes=routes),))
    way = asked(routed, "web", "198.51.100.5")
    assert (way.request.outcome, way.request.reason) == (Outcome.UNKNOWN, Reason.NOT_READ)


@pytest.mark.parametrize(
    ("forwarding", "outcome"), [("1", Outcome.UNKNOWN), ("0", Outcome.DROPPED)]
)
def test_what_a_router_does_whose_rules_were_not_read_is_not_known(snapshot, forwarding, outcome):
    """It may translate, or let nothing pass: that its rules took too long is no sign of none."""
    nic = Link(index=2, name="ens3", mac=_DB, peer=LinkRef("host", "vnet1"))
    router = Stack(
        name="db",
        kind="guest",
        netns=None,
        links=(nic,),
        addresses=(Address(link="ens3", address="192.168.122.22", prefix_length=24),),
        routes=(
            route("192.168.122.22/32", "ens3", table=255, kind="local"),
            route("0.0.0.0/0", "ens3", gateway="192.168.122.1"),
        ),
        policy_rules=_RULES,
        neighbours=(),
        fdb=(),
        sysctls={"net.ipv4.ip_forward": forwarding, "net.ipv4.conf.ens3.forwarding": forwarding},
    )
    ports = {"vnet1": LinkRef("db", "ens3")}
    links = tuple(replace(each, peer=ports.get(each.name, each.peer)) for each in _HOST.links)
    routes = (*_HOST.routes, route("198.51.100.0/24", "virbr0", gateway="192.168.122.22"))
    host = replace(_HOST, links=links, routes=routes)
    inside = Inside(domain="db", access="agent", stack="db")
    seen = replace(snapshot, stacks=(host, router), guests=(inside,))
    way = asked(seen, "host", "198.51.100.5")
    assert way.request.outcome is outcome
    assert way.request.end.stack == "db"
    assert assume_guests(assume_guests(seen)) == assume_guests(seen)


def test_without_any_address_nothing_is_made_up(snapshot):
    """The end of the walk is unknown, not a fault."""
    unknown = replace(snapshot, networks=(), domains=(domain("web", _WEB, "vnet0"),))
    way = asked(unknown, "web", "10.0.0.9")
    assert way.request.outcome is Outcome.UNKNOWN


def test_a_gateway_that_nobody_told_of_is_not_made_up(snapshot):
    """On a bridge made by hand: neighbours are reached, anything beyond is unknown."""
    by_hand = replace(snapshot, networks=())
    assert asked(by_hand, "db", "192.168.122.1").works is True
    way = asked(by_hand, "db", "10.0.0.9")
    assert (way.request.outcome, way.request.reason) == (Outcome.UNKNOWN, Reason.NOT_MODELLED)
    assert "a gateway that is not known" in way.request.end.because


def test_what_was_read_is_kept(snapshot):
    """Of a guest that tells only its addresses, only the rest is assumed."""
    nic = Link(index=2, name="ens3", mac=_WEB)
    partly = Stack(
        name="web",
        kind="guest",
        netns=None,
        links=(replace(nic, peer=None),),
        addresses=(Address(link="ens3", address="192.168.122.99", prefix_length=24),),
    )
    tied = replace(partly, links=(replace(nic, peer=LinkRef("host", "vnet0")),))
    links = tuple(
        replace(link, peer=LinkRef("web", "ens3")) if link.name == "vnet0" else link
        for link in _HOST.links
    )
    seen = replace(
        snapshot,
        stacks=(replace(_HOST, links=links), tied),
        guests=(Inside(domain="web", access="addresses", stack="web"),),
    )
    way = asked(seen, "web", "10.0.0.9")
    assert str(way.request.end.packet.src) == "192.168.122.99"
    assert not any("192.168.122.99: " in sentence for sentence in way.request.assumptions)
    assert "web's gateway is 192.168.122.1: DHCP of network default says so" in (
        way.request.assumptions
    )


def test_assuming_twice_changes_nothing(snapshot):
    """A snapshot with assumptions is complete."""
    once = assume_guests(snapshot)
    assert assume_guests(once) == once


def test_a_guest_that_is_off_has_no_stack(snapshot):
    """Nor has one whose taps are not there."""
    off = tuple(replace(each, state="shutoff") for each in snapshot.domains)
    assert [s.name for s in assume_guests(replace(snapshot, domains=off)).stacks] == ["host"]


@pytest.mark.parametrize("ends", [("db", "10.0.0.9"), ("web", "db"), ("db:ens3", "web")])
def test_a_guest_that_is_shut_off_is_no_unknown_name(snapshot, ends):
    """It is told that it is off, as a fault: nothing is wrong with the question."""
    off = replace(snapshot.domains[1], state="shutoff")
    facts = assume_guests(replace(snapshot, domains=(snapshot.domains[0], off)))
    with pytest.raises(GuestOffError, match=r"db is shut off.*virsh start db") as error:
        resolve(facts, *ends)
    assert error.value.exit_code == 1


def test_a_reply_that_is_routed_out_does_not_get_back(snapshot):
    """Who asked is here: a reply that leaves by the uplink is none to it, whatever is out there."""
    astray = PolicyRule(priority=500, table=101, destination="192.168.122.0/24")
    host = snapshot.stack("host")
    wrong = route("0.0.0.0/0", "eno1", gateway="10.0.0.1", table=101)
    host = replace(host, policy_rules=(*_RULES, astray), routes=(*host.routes, wrong))
    facts = assume_guests(snapshot.with_stack(host))
    reply = walk(facts, resolve(facts, "web", "192.168.122.1")).reply
    assert (reply.outcome, reply.reason) == (Outcome.UNKNOWN, Reason.NO_RETURN_ROUTE)
    assert "for web, which is here" in reply.end.because
