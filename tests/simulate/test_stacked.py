"""Links that stand on others: macvtaps of guests, and bonds.

Macvlans are judged by the kernel in tests/kernel/test_macvlans.py. The kernel these tests run on
has no bonds, and a macvtap needs a guest that reads it: both are tested on facts.
"""

from __future__ import annotations

import pytest

from kvmdiag.model.link import LinkRef
from kvmdiag.model.link_kinds import Bond, BondPort, Macvlan
from kvmdiag.model.trace import Outcome, Reason


def _direct(net, name, network, mode, number):
    """A guest by a macvtap on nic0, as libvirt's <interface type='direct'>."""
    net.link(name, "eth0", network, peer=LinkRef("host", f"macvtap{number}"))
    net.link(
        "host",
        f"macvtap{number}",
        kind="macvtap",
        macvlan=Macvlan(mode=mode),
        lower="nic0",
        mac=net.mac(name, "eth0"),
        peer=LinkRef(name, "eth0"),
    )


@pytest.fixture(params=["bridge", "vepa", "private"])
def direct(net, request):
    """Guests g1 and g2 on nic0 of the host, which has 10.0.0.1; far beyond the cable."""
    net.cable("host", "nic0", "10.0.0.1/24", "far", "eth0", "10.0.0.9/24")
    for number in (1, 2):
        _direct(net, f"g{number}", f"10.0.0.{number + 1}/24", request.param, number)
    net.mode = request.param
    return net


def test_guests_on_macvtaps(direct):
    """To each other by the mode, to the world always, to their host never."""
    assert (direct.walk("g1", "g2").works is True) is (direct.mode == "bridge")
    assert direct.walk("g1", "far").works is True
    assert direct.walk("far", "g2").works is True
    for source, target in (("g1", "10.0.0.1"), ("host", "10.0.0.2")):
        request = direct.walk(source, target).request
        assert request.outcome is Outcome.UNRESOLVED


def test_a_macvtap_whose_guest_is_not_seen(net):
    """What a macvtap gets is its guest's, as with a tap."""
    net.cable("host", "nic0", None, "far", "eth0", "10.0.0.9/24")
    net.link(
        "host",
        "macvtap1",
        kind="macvtap",
        macvlan=Macvlan(mode="bridge"),
        lower="nic0",
        guest="dark",
    )
    mac = net.mac("host", "macvtap1")
    net.neighbour("far", "eth0", "10.0.0.2", mac, "permanent")
    request = net.walk("far", "10.0.0.2").request
    assert request.outcome is Outcome.DELIVERED
    assert any("dark" in text for text in request.assumptions)


def test_a_macvtap_on_an_uplink(net):
    """It leaves by the NIC, and the answer comes back to the guest's own MAC address."""
    net.link("host", "nic0", "10.0.0.1/24")
    _direct(net, "g1", "10.0.0.2/24", "bridge", 1)
    net.route("g1", "default", "10.0.0.254")
    walk = net.walk("g1", "203.0.113.5")
    assert (walk.request.outcome, walk.request.end.link) == (Outcome.LEFT, "nic0")
    assert walk.works is True
    assert walk.reply.end.stack == "g1"


def test_mode_source_is_not_modelled(net):
    """Said, not guessed."""
    net.cable("host", "nic0", "10.0.0.1/24", "far", "eth0", "10.0.0.9/24")
    net.link("host", "mv0", kind="macvlan", macvlan=Macvlan(mode="source"), lower="nic0")
    assert net.walk("far", "10.0.0.1").request.reason is Reason.NOT_MODELLED


@pytest.fixture
def bonded(net):
    """The host's bond0 over e1 and e2 to a switch; active-backup, and e1 is active."""
    net.bridge("switch", "br0", "10.0.0.9/24")
    net.link(
        "host", "bond0", "10.0.0.1/24", kind="bond", bond=Bond(mode="active-backup", active="e1")
    )
    mac = net.mac("host", "bond0")
    for number, state in ((1, "active"), (2, "backup")):
        net.cable("host", f"e{number}", None, "switch", f"p{number}")
        net.alter("host", f"e{number}", master="bond0", mac=mac, bond_port=BondPort(state=state))
        net.alter("switch", f"p{number}", master="br0")
    return net


@pytest.mark.parametrize(("active", "other"), [("e1", "e2"), ("e2", "e1")])
def test_by_the_active_port(bonded, active, other):
    """The other one neither sends nor takes anything."""
    bonded.alter("host", "bond0", bond=Bond(mode="active-backup", active=active))
    bonded.alter("host", active, bond_port=BondPort(state="active"))
    bonded.alter("host", other, bond_port=BondPort(state="backup"))
    walk = bonded.walk("host", "10.0.0.9")
    assert walk.works is True
    links = {hop.link for hop in walk.hops}
    assert active in links
    assert other not in links


def test_the_active_port_leads_nowhere(bonded):
    """No carrier at its far end, and the bond did not notice (no miimon)."""
    bonded.alter("switch", "p1", up=False)
    request = bonded.walk("host", "10.0.0.9").request
    assert (request.outcome, request.reason) == (Outcome.UNRESOLVED, Reason.LINK_DOWN)


def test_no_port_is_active(bonded):
    """A bond without a port that works has no carrier, and says so itself."""
    bonded.alter("host", "bond0", bond=Bond(mode="active-backup"))
    bonded.neighbour("host", "bond0", "10.0.0.9", bonded.mac("switch", "br0"), "permanent")
    request = bonded.walk("host", "10.0.0.9").request
    assert (request.outcome, request.reason) == (Outcome.DROPPED, Reason.NO_CARRIER)


def test_ports_that_share_the_load(bonded):
    """Any of them may be chosen, so every one is walked: both lead to the same."""
    bonded.alter("host", "bond0", bond=Bond(mode="802.3ad"))
    for port in ("e1", "e2"):
        bonded.alter("host", port, bond_port=BondPort(state="active"))
    walk = bonded.walk("host", "10.0.0.9")
    assert walk.works is True
    assert any("by which port bond0" in text for text in walk.request.assumptions)


def test_one_port_of_several_loses_it(bonded):
    """Some connections work and others do not: for a single one it is unknown."""
    bonded.alter("host", "bond0", bond=Bond(mode="balance-xor"))
    for port in ("e1", "e2"):
        bonded.alter("host", port, bond_port=BondPort(state="active"))
    bonded.neighbour("host", "bond0", "10.0.0.9", bonded.mac("switch", "br0"), "permanent")
    bonded.alter("switch", "p2", mtu=60)
    request = bonded.walk("host", "10.0.0.9").request
    assert request.outcome is Outcome.UNKNOWN
    assert "is e1" in request.end.because
    assert "is e2" in request.end.because
