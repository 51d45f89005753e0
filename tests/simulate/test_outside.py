"""Where the snapshot ends: uplinks, guests that cannot be looked into, programs."""

from __future__ import annotations

import pytest

from kvmdiag.model.activity import Flow, FlowTuple
from kvmdiag.model.link import BridgePort, Tap
from kvmdiag.model.link_kinds import Process, TcFilter, Xdp
from kvmdiag.model.trace import Outcome, Reason, Stage


def test_a_guest_whose_inside_is_not_seen(bridged):
    """The walk ends at its tap, and says that the rest is assumed."""
    bridged.link("host", "vnet9", kind="tun", guest="dark")
    bridged.alter("host", "vnet9", master="br0")
    walk = bridged.walk("g1", "10.0.0.77")
    assert walk.request.outcome is Outcome.DELIVERED
    assert any("dark" in sentence for sentence in walk.request.assumptions)
    assert walk.works is None


def test_leaving_by_an_uplink(routed):
    """A cable whose far end is not seen leads out; what lies beyond is assumed."""
    routed.link("host", "up0", "198.51.100.2/24", kind="veth")
    routed.route("host", "default", "198.51.100.1")
    routed.forward("host")
    routed.rules("host", "-A POSTROUTING -o up0 -j MASQUERADE", table="nat")
    walk = routed.walk("guest", "203.0.113.5")
    assert walk.request.outcome is Outcome.LEFT
    assert str(walk.request.end.packet.src) == "198.51.100.2"
    assert walk.works is True
    assert str(walk.reply.end.packet.dst) == "10.1.0.2"


def test_an_untranslated_source_may_not_come_back(routed):
    """Nothing shows that the outside knows the way back to a private address."""
    routed.link("host", "up0", "198.51.100.2/24", kind="veth")
    routed.route("host", "default", "198.51.100.1")
    routed.forward("host")
    walk = routed.walk("guest", "203.0.113.5")
    assert walk.request.outcome is Outcome.LEFT
    assert walk.reply.reason is Reason.NO_RETURN_ROUTE
    assert walk.works is None


@pytest.mark.parametrize(("status", "works"), [("seen-reply", True), ("confirmed", None)])
def test_an_answer_that_came_back_before(routed, status, works):
    """A routed network: that the outside knows the way back is shown by a tracked connection."""
    routed.link("host", "up0", "198.51.100.2/24", kind="veth")
    routed.route("host", "default", "198.51.100.1")
    routed.forward("host")
    there = FlowTuple(
        source="10.1.0.2", destination="203.0.113.5", source_port=1, destination_port=2
    )
    back = FlowTuple(
        source="203.0.113.5", destination="10.1.0.2", source_port=2, destination_port=1
    )
    flow = Flow(protocol="tcp", original=there, reply=back, status=frozenset({status}))
    routed.change("host", flows=(flow,))
    assert routed.walk("guest", "203.0.113.5").works is works


def test_a_program_at_the_end_of_a_tunnel(routed):
    """A VPN's tun: the packet is handed to the program, and what becomes of it is assumed."""
    tap = Tap(mode="tun", readers=(Process(pid=71, name="openvpn"),))
    routed.link("host", "tun0", "10.8.0.2/24", kind="tun", type="none", mac=None, tap=tap)
    routed.route("host", "203.0.113.0/24", dev="tun0")
    request = routed.walk("host", "203.0.113.5").request
    assert request.outcome is Outcome.LEFT
    assert "openvpn (71)" in request.end.decision
    assert any("openvpn (71)" in text for text in request.assumptions)
    routed.alter("host", "tun0", tap=Tap(mode="tun"))
    assert routed.walk("host", "203.0.113.5").request.reason is Reason.NOT_MODELLED


def test_programs_that_may_drop_it(bridged):
    """XDP and tc filters are not run: that they let the packet through is assumed, and said."""
    police = TcFilter(where="ingress", kind="u32", priority=1, protocol=3, actions=("police",))
    bridged.alter("host", "tap-g1", filters=(police,))
    bridged.alter("g2", "eth0", xdp=(Xdp(mode="native", program=7),))
    request = bridged.walk("g1", "g2").request
    assert request.arrived
    assert request.assumptions == (
        "the tc filters on tap-g1 of host let the packet through",
        "the XDP program on eth0 of g2 lets the packet through",
    )


def _lan(bridged):
    """The bridge has an uplink, and its network goes on beyond that."""
    bridged.link("host", "eno1", master="br0", port=BridgePort())
    bridged.forward("host")
    bridged.route("host", "default", "10.0.0.254")


@pytest.mark.parametrize("source", ["10.0.0.99", "203.0.113.5"])
def test_the_outside_reaches_a_guest_in_its_own_network_directly(bridged, source):
    """By its own MAC address, over the bridge: whether the host forwards does not matter."""
    _lan(bridged)
    bridged.set("host", "net.ipv4.conf.br0.forwarding", 0)
    request = bridged.walk(source, "g1").request
    assert request.outcome is Outcome.DELIVERED
    stages = [hop.stage for hop in request.hops if hop.stack == "host"]
    assert stages == [Stage.INGRESS, Stage.BRIDGE, Stage.EGRESS]


def test_the_outside_meets_what_isolates_a_guest(bridged):
    """The bridge keeps the guest's port from the uplink."""
    _lan(bridged)
    for port in ("eno1", "tap-g1"):
        bridged.port("host", port, isolated=True)
    assert bridged.walk("10.0.0.99", "g1").request.reason is Reason.ISOLATED
    assert bridged.walk("10.0.0.99", "g2").request.outcome is Outcome.DELIVERED


def test_the_outside_needs_the_host_for_other_networks(bridged):
    """A guest behind another bridge: its address is in none of the uplink's networks."""
    _lan(bridged)
    bridged.bridge("host", "br1", "10.1.0.1/24")
    bridged.guest("g3", "10.1.0.3/24", bridge="br1")
    bridged.forward("host")
    request = bridged.walk("10.0.0.99", "g3").request
    assert request.outcome is Outcome.DELIVERED
    assert Stage.ROUTE in [hop.stage for hop in request.hops if hop.stack == "host"]


def test_an_address_of_the_outside_is_not_asked_for_here(bridged):
    """Between two machines that are both beyond the uplink nothing can be told."""
    _lan(bridged)
    request = bridged.walk("10.0.0.99", "10.0.0.77").request
    assert request.outcome is Outcome.UNKNOWN
    assert "nobody here answers for 10.0.0.77" in request.end.because
