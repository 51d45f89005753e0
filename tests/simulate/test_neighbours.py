"""Who answers when a stack asks for its next hop, and what keeps others quiet."""

from __future__ import annotations

import pytest

from kvmdiag.model.link import BridgePort
from kvmdiag.model.matches import IcmpTypeIs, ProtocolIs
from kvmdiag.model.netfilter import Chain, Rule, Table
from kvmdiag.model.statements import Accept
from kvmdiag.model.trace import Outcome, Reason, Stage, SysctlRef


def test_isolation_with_a_known_neighbour(bridged):
    """When ARP is not needed the frame itself dies in the bridge."""
    bridged.port("host", "tap-g1", isolated=True)
    bridged.port("host", "tap-g2", isolated=True)
    bridged.neighbour("g1", "eth0", "10.0.0.3", bridged.mac("g2", "eth0"), "permanent")
    request = bridged.walk("g1", "g2").request
    assert (request.outcome, request.reason) == (Outcome.DROPPED, Reason.ISOLATED)
    assert request.end.stage is Stage.BRIDGE


def test_a_frame_for_another_mac_is_refused(bridged):
    """A wrong permanent neighbour entry: the frame arrives and is not taken."""
    wrong = bridged.mac("g2", "eth0")
    bridged.neighbour("g1", "eth0", "10.0.0.1", wrong, "permanent")
    request = bridged.walk("g1", "10.0.0.1").request
    assert request.end.stack == "g2"
    assert not request.arrived


def test_nobody_has_the_address(bridged):
    """ARP stays without an answer."""
    request = bridged.walk("g1", "10.0.0.99").request
    assert (request.outcome, request.reason) == (Outcome.UNRESOLVED, Reason.UNRESOLVED)
    assert request.end.stage is Stage.NEIGHBOUR


@pytest.mark.parametrize(
    ("state", "told"), [("stale", True), ("reachable", True), ("failed", False)]
)
def test_an_answer_of_earlier_is_told(bridged, state, told):
    """Nobody would answer now; until the stack asks again, packets follow what it remembers."""
    bridged.neighbour("g1", "eth0", "10.0.0.99", "02:00:00:00:00:99", state)
    request = bridged.walk("g1", "10.0.0.99").request
    assert request.outcome is Outcome.UNRESOLVED
    assert any("02:00:00:00:00:99" in said for said in request.assumptions) is told


def test_what_keeps_a_question_from_the_outside_is_named(bridged):
    """Nobody who is seen has the address; who is not seen cannot be asked."""
    bridged.link("host", "eno1", master="br0", port=BridgePort(isolated=True))
    bridged.port("host", "tap-g1", isolated=True)
    request = bridged.walk("g1", "10.0.0.99").request
    assert (request.outcome, request.reason) == (Outcome.UNRESOLVED, Reason.ISOLATED)
    assert "tap-g1 and eno1 are isolated ports" in request.end.because
    assert bridged.walk("g2", "10.0.0.99").request.outcome is Outcome.LEFT


@pytest.mark.parametrize(
    ("level", "answers"), [(0, True), (1, False), (2, False), (3, True), (8, False)]
)
def test_arp_ignore(net, level, answers):
    """Asked for an address of another link; 8 keeps quiet about every address."""
    net.cable("a", "eth0", "10.0.0.1/24", "b", "eth0", "10.0.0.2/24")
    net.link("b", "eth1", "10.9.0.2/24", kind="dummy")
    net.route("a", "10.9.0.0/24", dev="eth0")
    net.set("b", "net.ipv4.conf.eth0.arp_ignore", level)
    request = net.walk("a", "10.9.0.2").request
    assert request.arrived is answers
    if not answers:
        assert isinstance(request.end.decider, SysctlRef)
        assert "arp_ignore" in str(request.end.decider)


def test_arp_filter_answers_only_where_it_would_send(net):
    """With arp_filter the answering link must be the one that leads to the asker."""
    net.cable("a", "eth0", "10.0.0.1/24", "b", "eth0", "10.0.0.2/24")
    net.cable("a", "eth1", "10.9.0.1/24", "b", "eth1", "10.9.0.2/24")
    net.route("b", "10.0.0.1/32", dev="eth1")
    assert net.walk("a", "10.0.0.2").request.arrived
    net.set("b", "net.ipv4.conf.all.arp_filter", 1)
    assert net.walk("a", "10.0.0.2").request.reason is Reason.UNRESOLVED


def test_proxy_arp(routed):
    """A router answers for what it would forward, if it is told to."""
    routed.change("guest", routes=routed.stack("guest").routes[:-1])
    routed.route("guest", "10.2.0.0/24", dev="eth0")
    assert routed.walk("guest", "far").request.outcome is Outcome.UNRESOLVED
    routed.set("host", "net.ipv4.conf.in0.proxy_arp", 1)
    assert routed.walk("guest", "far").works is True


def test_neighbour_discovery_is_icmpv6(net):
    """A guest that lets in echo requests only is never found: ip6tables drops the question."""
    net.cable("a", "eth0", "fd00::1/64", "b", "eth0", "fd00::2/64")
    body = (ProtocolIs(protocols=("icmpv6",)), IcmpTypeIs(types=((128, None),)), Accept())
    rule = Rule(body=body, text="icmpv6 type echo-request accept")
    chain = Chain(name="in", hook="input", type="filter", policy="drop", rules=(rule,))
    net.table("b", Table(family="ip6", name="t", backend="nft", chains=(chain,)))
    request = net.walk("a", "fd00::2").request
    assert (request.outcome, request.reason) == (Outcome.UNRESOLVED, Reason.NETFILTER)
    assert "neighbour discovery" in request.end.because


def test_an_address_left_on_a_bridge_port(net):
    """What comes in by the port goes to the bridge: ARP answers never reach the address."""
    net.bridge("host", "br0")
    net.guest("g1", "10.0.0.2/24")
    net.address("host", "tap-g1", "10.0.0.1/24")
    request = net.walk("host", "g1").request
    assert (request.outcome, request.reason) == (Outcome.UNRESOLVED, Reason.UNRESOLVED)
    assert "bridge br0" in request.end.because


def test_a_neighbour_of_the_outside_that_was_sought_in_vain(routed):
    """Nothing tells how long ago: that it is there is still assumed, and the contrary is told."""
    routed.link("host", "up0", "198.51.100.2/24", kind="veth")
    routed.neighbour("host", "up0", "198.51.100.7", None, "failed")
    request = routed.walk("host", "198.51.100.7").request
    assert request.outcome is Outcome.LEFT
    (assumed,) = request.assumptions
    assert "host asked for it in vain the last time" in assumed
