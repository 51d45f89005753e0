"""What rules hear of connections: new, answered, invalid, translated, or not tracked at all."""

from __future__ import annotations

from kvmdiag.model.matches import ConntrackStateIs
from kvmdiag.model.statements import Drop
from kvmdiag.model.trace import Reason


def test_nat_chains_without_conntrack_are_not_run(routed):
    """Only a translation or a match on the connection switches conntrack on."""
    nat = {"type": "nat", "priority": -100, "name": "nat"}
    routed.chain("host", "prerouting", Drop(), family="ip", **nat)
    assert routed.walk("guest", "far").works is True
    watch = ConntrackStateIs(states=("invalid",))
    routed.chain("host", "forward", watch, Drop(), family="ip")
    assert routed.walk("guest", "far").request.end.decider.chain == "nat"


def test_forward_sees_a_redirected_packet_as_one_connection(routed):
    """After DNAT the connection is the same: state new, status dnat."""
    routed.rules(
        "host",
        "-A PREROUTING -d 10.1.0.1 -p tcp --dport 80 -j DNAT --to-destination 10.2.0.2",
        table="nat",
    )
    routed.rules("host", "-A FORWARD -m conntrack --ctstate DNAT -j DROP")
    assert not routed.walk("guest", "10.1.0.1", "tcp", 80).request.arrived
    assert routed.walk("guest", "far", "tcp", 80).works is True


def test_asymmetric_reply_is_invalid(net):
    """A firewall that sees only the answer knows no connection for it."""
    net.cable("a", "eth0", "10.0.0.1/24", "fw", "eth0", "10.0.0.254/24")
    net.cable("b", "eth0", "10.1.0.1/24", "fw", "eth1", "10.1.0.254/24")
    net.cable("a", "eth1", "10.9.0.1/24", "b", "eth1", "10.9.0.2/24")
    net.route("a", "10.1.0.0/24", "10.9.0.2", preferred_source="10.0.0.1")
    net.route("b", "default", "10.1.0.254")
    net.forward("fw")
    net.rules("fw", "-A FORWARD -m conntrack --ctstate INVALID -j DROP")
    walk = net.walk("a", "10.1.0.1", "tcp", 80)
    assert walk.request.arrived
    assert walk.reply.reason is Reason.NETFILTER
    assert walk.reply.end.stack == "fw"


def test_before_conntrack_a_packet_is_invalid(routed):
    """A rule in raw asks for the state of a connection that is not known yet."""
    routed.rules("host", "-A PREROUTING -m conntrack --ctstate INVALID -j DROP", table="raw")
    assert routed.walk("guest", "far").request.reason is Reason.NETFILTER
