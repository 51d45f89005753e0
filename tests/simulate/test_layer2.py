"""Links, bridges and neighbours: how a frame gets from one stack to the next."""

from __future__ import annotations

import pytest

from kvmdiag.model.activity import Flow, FlowTuple
from kvmdiag.model.link import Tap
from kvmdiag.model.link_kinds import Process, TcFilter, Xdp
from kvmdiag.model.netfilter import Accept, Chain, IcmpTypeIs, ProtocolIs, Rule, Table
from kvmdiag.model.stack import NextHop, Route
from kvmdiag.model.trace import LinkStateRef, Outcome, Reason, Stage, SysctlRef


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


def test_isolation_with_a_known_neighbour(bridged):
    """When ARP is not needed the frame itself dies in the bridge."""
    bridged.port("host", "tap-g1", isolated=True)
    bridged.port("host", "tap-g2", isolated=True)
    bridged.neighbour("g1", "eth0", "10.0.0.3", bridged.mac("g2", "eth0"), "permanent")
    request = bridged.walk("g1", "g2").request
    assert (request.outcome, request.reason) == (Outcome.DROPPED, Reason.ISOLATED)
    assert request.end.stage is Stage.BRIDGE


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


def test_mark_does_not_cross_a_cable(routed):
    """skb_scrub_packet takes the mark away between namespaces."""
    routed.rules("guest", "-A OUTPUT -j MARK --set-mark 7", table="mangle")
    routed.rules("host", "-A FORWARD -m mark --mark 7 -j DROP")
    walk = routed.walk("guest", "far")
    assert walk.request.arrived
    assert [hop.packet.mark for hop in walk.request.hops if hop.stack == "guest"][-1] == 7


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


def test_an_address_left_on_a_bridge_port(net):
    """What comes in by the port goes to the bridge: ARP answers never reach the address."""
    net.bridge("host", "br0")
    net.guest("g1", "10.0.0.2/24")
    net.address("host", "tap-g1", "10.0.0.1/24")
    request = net.walk("host", "g1").request
    assert (request.outcome, request.reason) == (Outcome.UNRESOLVED, Reason.UNRESOLVED)
    assert "bridge br0" in request.end.because


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
