"""Sources that are refused: the reverse path filter, and addresses of one's own."""

from __future__ import annotations

import pytest

from kvmdiag.model.trace import Outcome, Reason, SysctlRef


def _asymmetric(net):
    """The host's way back to the guest is by another link than the guest's packets come by."""
    net.cable("guest", "eth1", "10.9.0.2/24", "host", "in1", "10.9.0.1/24")
    net.forward("host")
    net.route("host", "10.1.0.2/32", "10.9.0.2")
    # The filter keeps the host from answering ARP as well; the guest knows the address already.
    net.neighbour("guest", "eth0", "10.1.0.1", net.mac("host", "in0"), "permanent")
    return net


@pytest.mark.parametrize(
    ("everywhere", "link", "passes"),
    [
        (0, 0, True),
        (0, 1, False),
        (1, 0, False),
        (1, 1, False),
        (0, 2, True),
        (2, 0, True),
        (1, 2, True),
        (2, 1, True),
        (2, 2, True),
    ],
)
def test_rp_filter_is_the_greater_of_two(routed, everywhere, link, passes):
    """Nine combinations of conf.all and the link's own; 1 is strict, 2 loose."""
    net = _asymmetric(routed)
    net.set("host", "net.ipv4.conf.all.rp_filter", everywhere)
    net.set("host", "net.ipv4.conf.in0.rp_filter", link)
    request = net.walk("guest", "far").request
    assert (request.reason is not Reason.RP_FILTER) is passes
    if not passes:
        assert request.outcome is Outcome.DROPPED
        assert isinstance(request.end.decider, SysctlRef)
        assert request.end.out_link == "in1"


def test_loose_rp_filter_wants_some_way_back(routed):
    """With no route at all to the source even the loose filter drops."""
    routed.address("guest", "eth0", "198.51.100.9/24")
    routed.set("host", "net.ipv4.conf.all.rp_filter", 2)
    walk = routed.walk("guest", "far", bound="198.51.100.9")
    assert walk.request.reason in (Reason.RP_FILTER, Reason.UNRESOLVED)
    assert not walk.request.arrived


def test_strict_rp_filter_forgets_the_mark(routed):
    """The way back needs the mark, and the filter looks without it unless src_valid_mark is on."""
    net = _asymmetric(routed)
    net.set("host", "net.ipv4.conf.in0.rp_filter", 1)
    net.rules("host", "-A PREROUTING -i in0 -j MARK --set-mark 7", table="mangle")
    net.policy("host", 100, table=7, fwmark=7)
    net.route("host", "10.1.0.0/24", dev="in0", table=7)
    net.route("host", "10.2.0.0/24", dev="out0", table=7)
    assert net.walk("guest", "far").request.reason is Reason.RP_FILTER
    net.set("host", "net.ipv4.conf.all.src_valid_mark", 1)
    assert net.walk("guest", "far").request.arrived


def test_strict_rp_filter_with_a_rule_for_the_incoming_link(routed):
    """The way back is looked up as if coming from the outgoing link: an iif rule does not help."""
    net = _asymmetric(routed)
    net.set("host", "net.ipv4.conf.in0.rp_filter", 1)
    net.policy("host", 100, table=7, iif="in0")
    net.route("host", "10.1.0.0/24", dev="in0", table=7)
    net.route("host", "10.2.0.0/24", dev="out0", table=7)
    assert net.walk("guest", "far").request.reason is Reason.RP_FILTER
    net.policy("host", 99, table=8, iif="out0")
    net.route("host", "10.1.0.0/24", dev="in0", table=8)
    assert net.walk("guest", "far").request.arrived


def test_rp_filter_keeps_quiet_on_arp(net):
    """A machine does not answer ARP for one it would not accept a packet from."""
    net.cable("a", "eth0", "10.0.0.1/24", "b", "eth0", "10.0.0.2/24")
    net.route("b", "10.0.0.1/32", type="blackhole")
    net.set("b", "net.ipv4.conf.eth0.rp_filter", 1)
    walk = net.walk("a", "10.0.0.2")
    assert (walk.request.outcome, walk.request.reason) == (Outcome.UNRESOLVED, Reason.RP_FILTER)
    assert walk.request.end.decider.stack == "b"


def test_a_stack_refuses_its_own_address_as_source(routed):
    """A martian, unless accept_local allows it."""
    routed.address("guest", "eth0", "10.2.0.1/32")
    walk = routed.walk("guest", "10.2.0.2", bound="10.2.0.1")
    assert not walk.request.arrived
    routed.set("host", "net.ipv4.conf.in0.accept_local", 1)
    assert routed.walk("guest", "10.2.0.2", bound="10.2.0.1").request.arrived
