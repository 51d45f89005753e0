"""VXLAN where the far end is not seen, or cannot be foretold.

What the kernel does between two ends that are seen is in tests/kernel/test_vxlan.py.
"""

from __future__ import annotations

import pytest

from kvmdiag.model.link_kinds import Vxlan
from kvmdiag.model.stack import TunnelEntry
from kvmdiag.model.trace import Outcome, Reason


@pytest.fixture
def tunnel(bridged):
    """The guests' bridge has vx0 as a port, by which it is one with other hosts."""
    bridged.link("host", "up0", "192.0.2.1/24")
    vxlan = Vxlan(vni=5, port=4789, local="192.0.2.1", remote="192.0.2.2")
    bridged.link("host", "vx0", kind="vxlan", vxlan=vxlan, master="br0", mtu=1450)
    bridged.change("host", tunnels=())
    return bridged


def test_a_peer_that_is_not_seen(tunnel):
    """It leaves by the tunnel, and by the NIC below it; the answer comes the same way."""
    walk = tunnel.walk("g1", "10.0.0.77")
    assert (walk.request.outcome, walk.request.end.link) == (Outcome.LEFT, "vx0")
    assert "wrapped, for 192.0.2.2" in walk.request.end.decision
    assert str(walk.request.end.packet.dst) == "10.0.0.77"
    assert "up0" in {hop.link for hop in walk.request.hops}
    assert walk.works is True
    assert walk.reply.end.stack == "g1"


def test_what_carries_it_is_dropped(tunnel):
    """A firewall that knows nothing of VXLAN."""
    tunnel.rules("host", "-A OUTPUT -p udp --dport 4789 -j DROP")
    request = tunnel.walk("g1", "10.0.0.77").request
    assert (request.outcome, request.reason) == (Outcome.DROPPED, Reason.NETFILTER)


@pytest.mark.parametrize(
    "vxlan",
    [
        Vxlan(vni=5, external=True),
        Vxlan(vni=5, remote="239.1.1.1"),
    ],
)
def test_peers_that_cannot_be_told(tunnel, vxlan):
    """By programs, or by multicast: said, not guessed."""
    tunnel.alter("host", "vx0", vxlan=vxlan)
    assert tunnel.walk("g1", "10.0.0.77").request.reason is Reason.NOT_MODELLED


def test_a_tunnel_without_peers(tunnel):
    """Neither a remote nor an entry: nothing goes out."""
    tunnel.alter("host", "vx0", vxlan=Vxlan(vni=5))
    assert tunnel.walk("g1", "10.0.0.77").request.outcome is Outcome.UNRESOLVED


def test_what_is_known_of_peers_was_not_read(tunnel):
    """It is unknown then."""
    tunnel.change("host", tunnels=None)
    assert tunnel.walk("g1", "10.0.0.77").request.reason is Reason.NOT_READ


def test_an_entry_for_one_address(tunnel):
    """It goes to the peer that is known to have the MAC address."""
    mac = "02:00:00:00:00:99"
    tunnel.neighbour("g1", "eth0", "10.0.0.77", mac, "permanent")
    tunnel.change("host", tunnels=(TunnelEntry(link="vx0", mac=mac, remote="192.0.2.9"),))
    tunnel.fdb("host", "br0", "vx0", mac, sticky=True)
    assert "192.0.2.9" in tunnel.walk("g1", "10.0.0.77").request.end.decision


def test_a_router_cuts_up_what_carries_it(tunnel):
    """The outer packet may be cut up: a narrow link on its way loses nothing."""
    tunnel.cable("host", "out0", "198.51.100.1/24", "far", "eth0", "198.51.100.2/24")
    tunnel.cable("far", "eth1", "203.0.113.1/24", "end", "eth0", "203.0.113.2/24")
    for link in (("far", "eth1"), ("end", "eth0")):
        tunnel.alter(*link, mtu=100)
    tunnel.forward("far")
    tunnel.route("host", "203.0.113.0/24", "198.51.100.2")
    tunnel.route("end", "default", "203.0.113.1")
    vxlan = Vxlan(vni=5, port=4789, local="198.51.100.1", remote="203.0.113.2")
    tunnel.alter("host", "vx0", vxlan=vxlan)
    other = Vxlan(vni=5, port=4789, local="203.0.113.2", remote="198.51.100.1")
    tunnel.link("end", "vx0", "10.0.0.50/24", kind="vxlan", vxlan=other, mtu=1450)
    tunnel.change("end", tunnels=())
    assert tunnel.walk("g1", "10.0.0.50").works is True
