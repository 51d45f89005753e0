"""Links and bridges: how a frame gets from one stack to the next."""

from __future__ import annotations

import pytest

from kvmdiag.model.stack import NextHop, Route
from kvmdiag.model.trace import LinkStateRef, Outcome, Reason, Stage


def test_guests_on_one_bridge(bridged):
    """Two guests speak through the bridge; the host's forwarding has nothing to do with it."""
    walk = bridged.walk("g1", "g2")
    assert walk.works is True
    assert [hop.stage for hop in walk.request.hops if hop.stack == "host"] == [
        Stage.INGRESS,
        Stage.BRIDGE,
        Stage.EGRESS,
    ]
    assert walk.request.end.packet.ttl == 64


def test_guest_to_the_bridge_itself(bridged):
    """The bridge's own address is the host's."""
    walk = bridged.walk("g1", "10.0.0.1")
    assert walk.works is True
    assert str(walk.request.end.place) == "host/br0"


def test_a_bridge_without_address_only_bridges(net):
    """Guests do not need the bridge to have one."""
    net.bridge("host", "br0")
    net.guest("g1", "10.0.0.2/24")
    net.guest("g2", "10.0.0.3/24")
    assert net.walk("g1", "g2").works is True


def test_two_isolated_ports_do_not_see_each_other(bridged):
    """The frame cannot pass, and neither can ARP before it: the port is named."""
    bridged.port("host", "tap-g1", isolated=True)
    bridged.port("host", "tap-g2", isolated=True)
    request = bridged.walk("g1", "g2").request
    assert (request.outcome, request.reason) == (Outcome.UNRESOLVED, Reason.ISOLATED)
    assert isinstance(request.end.decider, LinkStateRef)
    assert bridged.walk("g1", "10.0.0.1").works is True


def test_one_isolated_port_is_harmless(bridged):
    """Isolation is between isolated ports only."""
    bridged.port("host", "tap-g1", isolated=True)
    assert bridged.walk("g1", "g2").works is True


@pytest.mark.parametrize("state", ["disabled", "listening", "learning", "blocking"])
def test_only_a_forwarding_port_forwards(bridged, state):
    """Every other state of a port stops frames."""
    bridged.port("host", "tap-g2", state=state)
    request = bridged.walk("g1", "g2").request
    assert (request.outcome, request.reason) == (Outcome.UNRESOLVED, Reason.PORT_STATE)


@pytest.mark.parametrize("blocked", ["one", "two"])
def test_two_cables_between_two_bridges(bridged, blocked):
    """Spanning tree blocks one of them: whichever it is, the other one leads on."""
    bridged.bridge("switch", "br0")
    bridged.guest("g3", "10.0.0.4/24", stack="switch")
    for cable in ("one", "two"):
        bridged.cable("host", cable, None, "switch", cable)
        bridged.alter("host", cable, master="br0")
        bridged.alter("switch", cable, master="br0")
    bridged.port("switch", blocked, state="blocking")
    assert bridged.walk("g1", "g3").works is True
    assert bridged.walk("g3", "g1").works is True


@pytest.mark.parametrize(
    ("stack", "link", "reason"),
    [("host", "tap-g2", Reason.LINK_DOWN), ("g2", "eth0", Reason.LINK_DOWN)],
)
def test_the_end_that_is_down_is_named(bridged, stack, link, reason):
    """Of a cut cable the end somebody set down, not the one that lost carrier."""
    bridged.alter(stack, link, up=False, carrier=False)
    request = bridged.walk("g1", "g2").request
    assert request.reason is reason
    assert (request.end.decider.stack, request.end.decider.link) == (stack, link)


def test_a_bridge_set_down_bridges_nothing(bridged):
    """Its ports drop what they get."""
    bridged.alter("host", "br0", up=False)
    assert bridged.walk("g1", "g2").request.reason is Reason.LINK_DOWN


def test_a_static_fdb_entry_moves_with_the_guest(bridged):
    """The first frame the guest sends moves it (br_fdb_update)."""
    bridged.guest("g3", "10.0.0.4/24")
    bridged.fdb("host", "br0", "tap-g3", bridged.mac("g2", "eth0"))
    assert bridged.walk("g1", "g2").works is True


@pytest.mark.parametrize("why", ["sticky", "learning off"])
def test_a_static_fdb_entry_that_cannot_move(bridged, why):
    """Frames go where it says, even if the guest is elsewhere."""
    bridged.guest("g3", "10.0.0.4/24")
    bridged.fdb("host", "br0", "tap-g3", bridged.mac("g2", "eth0"), sticky=why == "sticky")
    bridged.port("host", "tap-g2", learning=why == "sticky")
    request = bridged.walk("g1", "g2").request
    assert (request.outcome, request.reason) == (Outcome.DROPPED, Reason.NOT_FOR_US)
    assert str(request.end.place) == "g3/eth0"


def test_a_port_that_neither_learns_nor_floods(bridged):
    """No frame for an address behind it is ever sent there."""
    bridged.port("host", "tap-g2", learning=False, flood=False)
    assert bridged.walk("g1", "g2").request.reason is Reason.NO_PORT


def test_mark_does_not_cross_a_cable(routed):
    """skb_scrub_packet takes the mark away between namespaces."""
    routed.rules("guest", "-A OUTPUT -j MARK --set-mark 7", table="mangle")
    routed.rules("host", "-A FORWARD -m mark --mark 7 -j DROP")
    walk = routed.walk("guest", "far")
    assert walk.request.arrived
    assert [hop.packet.mark for hop in walk.request.hops if hop.stack == "guest"][-1] == 7


@pytest.mark.parametrize(("mtu", "passes"), [(80, True), (79, False)])
def test_a_bridge_drops_what_does_not_fit_a_port(bridged, mtu, passes):
    """A ping has 84 bytes; there is room for a VLAN tag of 4 (is_skb_forwardable)."""
    bridged.alter("host", "tap-g2", mtu=mtu)
    request = bridged.walk("g1", "g2").request
    assert request.arrived is passes
    if not passes:
        assert (request.outcome, request.reason) == (Outcome.DROPPED, Reason.MTU)


def test_br_netfilter_leaves_no_room(bridged):
    """What may not be cut up must fit the MTU itself (br_nf_dev_queue_xmit)."""
    bridged.set("host", "net.bridge.bridge-nf-call-iptables", 1)
    bridged.alter("host", "tap-g2", mtu=80)
    assert bridged.walk("g1", "g2").request.reason is Reason.MTU


def test_a_router_tells_the_sender_of_a_small_link(routed):
    """Path MTU discovery: fragmentation needed."""
    routed.alter("host", "out0", mtu=80)
    request = routed.walk("guest", "far").request
    assert (request.outcome, request.reason) == (Outcome.REJECTED, Reason.MTU)


@pytest.mark.parametrize("address", ["10.0.0.255", "224.0.0.1"])
def test_what_is_for_everybody(bridged, address):
    """Broadcast and multicast have no one path: said, rather than "nobody answers"."""
    bridged.add(
        "g1",
        "routes",
        Route(destination="10.0.0.255/32", table=255, type="broadcast",
              next_hops=(NextHop(link="eth0"),)),
        Route(destination="224.0.0.0/4", next_hops=(NextHop(link="eth0"),)),
    )  # fmt: skip
    request = bridged.walk("g1", address).request
    assert (request.outcome, request.reason) == (Outcome.UNKNOWN, Reason.NOT_MODELLED)
    assert "everybody" in request.end.because
