"""VLAN tags: bridges that filter by them, and links that add and take them.

The kernel these tests run on has neither; they are written after its source (net/bridge/br_vlan.c,
net/8021q/vlan_core.c).
"""

from __future__ import annotations

import pytest

from kvmdiag.model.link import Bridge, Vlan
from kvmdiag.model.stack import BridgeVlan
from kvmdiag.model.trace import Outcome, Reason


def _carry(net, link, vid, *, pvid=False, untagged=False):
    net.add("host", "bridge_vlans", BridgeVlan(link=link, vid=vid, pvid=pvid, untagged=untagged))


def _access(net, link, vid):
    """A port for machines that know nothing of VLANs."""
    _carry(net, link, vid, pvid=True, untagged=True)


def _vlan(net, stack, lower, vid, network=None, **facts):
    """A VLAN link with the MAC address of its lower one, as the kernel makes it."""
    mac = net.mac(stack, lower)
    name = f"{lower}.{vid}"
    net.link(stack, name, network, kind="vlan", vlan=Vlan(vid=vid), lower=lower, mac=mac, **facts)


@pytest.fixture
def filtering(bridged):
    """Guests g1 and g2 on a bridge that filters; no port carries anything yet."""
    bridged.alter("host", "br0", bridge=Bridge(vlan_filtering=True))
    bridged.change("host", bridge_vlans=())
    return bridged


@pytest.fixture
def trunk(net):
    """The host's br0 with a NIC as its port, at whose other end is a switch's bridge."""
    net.bridge("host", "br0")
    net.bridge("switch", "br0", vlan_filtering=True)
    net.cable("host", "nic", None, "switch", "p1")
    net.alter("host", "nic", master="br0")
    net.alter("switch", "p1", master="br0")
    net.change("switch", bridge_vlans=())
    return net


def test_guests_of_one_vlan(filtering):
    """Both ports put untagged frames into VLAN 10."""
    _access(filtering, "tap-g1", 10)
    _access(filtering, "tap-g2", 10)
    walk = filtering.walk("g1", "g2")
    assert walk.works is True
    assert any("in VLAN 10" in hop.decision for hop in walk.hops)


def test_guests_of_two_vlans(filtering):
    """Already ARP stays within its VLAN; the port that does not carry it is named."""
    _access(filtering, "tap-g1", 10)
    _access(filtering, "tap-g2", 20)
    request = filtering.walk("g1", "g2").request
    assert (request.outcome, request.reason) == (Outcome.UNRESOLVED, Reason.VLAN)
    assert "tap-g2 does not carry VLAN 10" in request.end.because


def test_two_vlans_with_a_known_neighbour(filtering):
    """Where ARP is not needed the frame dies at the bridge."""
    _access(filtering, "tap-g1", 10)
    _access(filtering, "tap-g2", 20)
    mac = filtering.mac("g2", "eth0")
    filtering.neighbour("g1", "eth0", "10.0.0.3", mac, "permanent")
    request = filtering.walk("g1", "g2").request
    assert (request.outcome, request.reason) == (Outcome.DROPPED, Reason.VLAN)


def test_a_port_without_pvid(filtering):
    """What comes without a tag belongs nowhere."""
    _carry(filtering, "tap-g1", 10)
    _access(filtering, "tap-g2", 10)
    request = filtering.walk("g1", "g2").request
    assert (request.outcome, request.reason) == (Outcome.UNRESOLVED, Reason.VLAN)
    assert "no PVID" in request.end.because


def test_a_guest_gets_tags_it_does_not_expect(filtering):
    """VLAN 10 leaves the port of g2 tagged: nothing in g2 takes such frames."""
    _access(filtering, "tap-g1", 10)
    _carry(filtering, "tap-g2", 10, pvid=True)
    mac = filtering.mac("g2", "eth0")
    filtering.neighbour("g1", "eth0", "10.0.0.3", mac, "permanent")
    request = filtering.walk("g1", "g2").request
    assert (request.outcome, request.reason, request.end.stack) == (
        Outcome.DROPPED,
        Reason.VLAN,
        "g2",
    )


@pytest.mark.parametrize(("self_", "works"), [(True, True), (False, None)])
def test_the_bridge_is_a_port_of_its_own(filtering, self_, works):
    """``bridge vlan add ... self``: without it the host is in no VLAN."""
    _access(filtering, "tap-g1", 1)
    if self_:
        _access(filtering, "br0", 1)
    walk = filtering.walk("g1", "10.0.0.1")
    assert (walk.works is True) is (works is True)
    if not self_:
        assert walk.request.reason is Reason.VLAN
        assert "br0 does not carry VLAN 1" in walk.request.end.because


def test_a_vlan_link_on_the_bridge(filtering):
    """The host takes part in VLAN 10 by br0.10; br0 itself has it tagged."""
    _access(filtering, "tap-g1", 10)
    _carry(filtering, "br0", 10)
    _vlan(filtering, "host", "br0", 10, "10.9.0.1/24")
    filtering.address("g1", "eth0", "10.9.0.2/24")
    assert filtering.walk("g1", "10.9.0.1").works is True
    assert filtering.walk("host", "10.9.0.2").works is True


def test_what_ports_carry_was_not_read(filtering):
    """It is unknown then, not open."""
    filtering.change("host", bridge_vlans=None)
    assert filtering.walk("g1", "g2").request.reason is Reason.NOT_READ


def test_without_filtering_tags_pass(trunk):
    """A guest's own VLAN goes through a bridge that does not look, to one that does."""
    trunk.guest("g1", "10.0.0.2/24")
    _vlan(trunk, "g1", "eth0", 30, "10.30.0.2/24")
    trunk.guest("g2", "10.30.0.3/24", stack="switch")
    for link, untagged in (("p1", False), ("tap-g2", True)):
        entry = BridgeVlan(link=link, vid=30, pvid=untagged, untagged=untagged)
        trunk.add("switch", "bridge_vlans", entry)
    assert trunk.walk("g1", "10.30.0.3").works is True
    assert trunk.walk("g2", "10.30.0.2").works is True


def test_a_vlan_link_on_a_port_steals_tags(trunk):
    """What nic.30 takes never comes to the bridge whose port nic is (vlan_do_receive)."""
    trunk.guest("g1", "10.0.0.2/24")
    _vlan(trunk, "g1", "eth0", 30, "10.30.0.2/24")
    trunk.guest("g2", "10.30.0.3/24", stack="switch")
    for link, untagged in (("p1", False), ("tap-g2", True)):
        entry = BridgeVlan(link=link, vid=30, pvid=untagged, untagged=untagged)
        trunk.add("switch", "bridge_vlans", entry)
    _vlan(trunk, "host", "nic", 30)
    request = trunk.walk("g2", "10.30.0.2").request
    assert request.outcome is Outcome.UNRESOLVED


def test_a_bridge_for_each_vlan(net):
    """The usual way without filtering: br30 has the port up0.30, and the tag leaves with it."""
    net.link("host", "up0", kind=None)
    net.bridge("host", "br30", "10.30.0.1/24")
    _vlan(net, "host", "up0", 30, master="br30")
    net.guest("g1", "10.30.0.2/24", bridge="br30")
    walk = net.walk("g1", "10.30.0.99")
    assert walk.request.outcome is Outcome.LEFT
    assert walk.request.end.link == "up0"
    assert "in VLAN 30" in walk.request.end.decision
    assert walk.works is True
    assert [hop.link for hop in walk.reply.hops][:2] == ["up0", "up0.30"]


def test_a_packet_from_the_outside_comes_with_its_tag(net):
    """The uplink that leads to the source has a VLAN: the frame comes in tagged."""
    net.link("host", "up0", kind=None)
    _vlan(net, "host", "up0", 30, "10.30.0.1/24")
    walk = net.walk("10.30.0.99", "host")
    assert walk.request.outcome is Outcome.DELIVERED
    assert [hop.link for hop in walk.request.hops][:2] == ["up0", "up0.30"]


def test_tagged_frames_meet_iptables_only_if_asked(trunk):
    """bridge-nf-filter-vlan-tagged; untagged ones do by bridge-nf-call-iptables alone."""
    trunk.guest("g1", "10.0.0.2/24")
    trunk.guest("g2", "10.0.0.3/24")
    for guest, number in (("g1", 2), ("g2", 3)):
        _vlan(trunk, guest, "eth0", 30, f"10.30.0.{number}/24")
    trunk.set("host", "net.bridge.bridge-nf-call-iptables", 1)
    trunk.rules("host", "-A FORWARD -j DROP")
    assert trunk.walk("g1", "10.0.0.3").request.reason is Reason.NETFILTER
    assert trunk.walk("g1", "10.30.0.3").works is True
    trunk.set("host", "net.bridge.bridge-nf-filter-vlan-tagged", 1)
    assert trunk.walk("g1", "10.30.0.3").request.reason is Reason.NETFILTER


def test_vlans_within_vlans_are_not_modelled(net):
    """Two tags on one frame: said, not guessed."""
    net.cable("a", "eth0", None, "b", "eth0")
    _vlan(net, "a", "eth0", 10)
    _vlan(net, "a", "eth0.10", 20, "10.20.0.1/24")
    net.neighbour("a", "eth0.10.20", "10.20.0.2", "02:00:00:00:00:99", "permanent")
    assert net.walk("a", "10.20.0.2").request.reason is Reason.NOT_MODELLED
