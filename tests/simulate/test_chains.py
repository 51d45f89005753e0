"""Base chains on the way: which of them see a packet, in which order, and what they say."""

from __future__ import annotations

import pytest

from kvmdiag.model.matches import FieldIs
from kvmdiag.model.statements import Drop, SetMark
from kvmdiag.model.trace import Outcome, Reason, RuleRef, Stage


def test_drop_names_its_rule(routed):
    """Table, chain, position and text of what decided."""
    routed.rules("host", "-A FORWARD -p tcp -j ACCEPT", "-A FORWARD -d 10.2.0.2/32 -j DROP")
    request = routed.walk("guest", "far").request
    assert (request.outcome, request.reason) == (Outcome.DROPPED, Reason.NETFILTER)
    decider = request.end.decider
    assert isinstance(decider, RuleRef)
    assert (decider.table, decider.chain, decider.index) == ("filter", "FORWARD", 1)
    assert routed.walk("guest", "far", "tcp", 80).works is True


def test_policy_decides_when_no_rule_does(routed):
    """A policy has no index."""
    routed.rules("host", "-A FORWARD -s 192.0.2.1 -j ACCEPT", policy="FORWARD")
    decider = routed.walk("guest", "far").request.end.decider
    assert decider.index is None
    assert "DROP" in decider.text


def test_reject_tells_the_sender(routed):
    """Rejected is not dropped."""
    routed.rules("host", "-A FORWARD -j REJECT --reject-with icmp-host-prohibited")
    request = routed.walk("guest", "far").request
    assert request.outcome is Outcome.REJECTED
    assert "icmp-host-prohibited" in request.end.decision


def test_accept_in_one_table_and_drop_in_another(routed):
    """An accept is final for its own base chain only."""
    routed.rules("host", "-A FORWARD -j ACCEPT")
    routed.chain("host", "forward", Drop(), priority=10)
    request = routed.walk("guest", "far").request
    assert request.outcome is Outcome.DROPPED
    assert request.end.decider.family == "inet"


def test_chains_run_by_priority(routed):
    """The lower number goes first, whatever the order of tables."""
    routed.chain("host", "forward", Drop(), name="late", priority=20)
    routed.chain("host", "forward", Drop(), name="early", priority=-20)
    assert routed.walk("guest", "far").request.end.decider.chain == "early"


def test_half_fixed_docker(routed):
    """The first rule lets the request out; without the second the reply is dropped."""
    routed.rules("host", "-A FORWARD -i in0 -j ACCEPT", policy="FORWARD")
    walk = routed.walk("guest", "far")
    assert walk.request.arrived
    assert walk.reply.reason is Reason.NETFILTER
    routed.change("host", tables=())
    routed.rules(
        "host",
        "-A FORWARD -i in0 -j ACCEPT",
        "-A FORWARD -o in0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        policy="FORWARD",
    )
    assert routed.walk("guest", "far").works is True
    assert routed.walk("far", "guest").works is False


def test_jump_comes_back_goto_does_not(routed):
    """After a goto the walk goes on where the last jump came from: here, the policy."""
    drop = "-A FORWARD -j DROP"
    routed.rules("host", "-A FORWARD -j user", drop, "-A user -p tcp -j ACCEPT")
    assert routed.walk("guest", "far").request.outcome is Outcome.DROPPED
    routed.change("host", tables=())
    routed.rules("host", "-A FORWARD -g user", drop, "-A user -p tcp -j ACCEPT")
    assert routed.walk("guest", "far").works is True


def test_goto_inside_a_jumped_chain(routed):
    """From goto inside a jumped-to chain the packet returns to the jump."""
    routed.rules(
        "host",
        "-A FORWARD -j one",
        "-A FORWARD -j DROP",
        "-A one -g two",
        "-A one -j ACCEPT",
        "-A two -p tcp -j ACCEPT",
    )
    assert routed.walk("guest", "far").request.end.decider.chain == "FORWARD"


def test_return_leaves_the_chain(routed):
    """RETURN in a base chain is its policy."""
    routed.rules("host", "-A FORWARD -j RETURN", "-A FORWARD -j DROP")
    assert routed.walk("guest", "far").works is True


def test_input_and_output_of_the_ends(routed):
    """The ends have netfilter as well, not only what lies between."""
    routed.rules("far", "-A INPUT -p icmp -j DROP")
    assert routed.walk("guest", "far").request.end.stage is Stage.INPUT
    assert routed.walk("guest", "far", "udp", 53).works is True
    routed.change("far", tables=())
    routed.rules("far", "-A OUTPUT -p icmp -j DROP")
    walk = routed.walk("guest", "far")
    assert walk.request.arrived
    assert walk.reply.end.stage is Stage.OUTPUT


def test_mark_in_an_ordinary_chain_does_not_route_again(routed):
    """Only chains of type route do (and iptables' mangle OUTPUT)."""
    routed.policy("guest", 100, action="blackhole", fwmark=7)
    mark = SetMark(of="packet", value=7, mask=0xFFFFFFFF)
    routed.chain("guest", "output", mark, family="ip")
    assert routed.walk("guest", "far").works is True
    routed.rules("guest", "-A OUTPUT -j MARK --set-mark 7", table="mangle")
    assert not routed.walk("guest", "far").request.arrived


@pytest.mark.parametrize(
    ("owner", "stopped"), [("--uid-owner 1000", False), ("! --uid-owner 1000", True)]
)
def test_nobody_owns_what_is_only_passed_on(routed, owner, stopped):
    """A packet of somebody else's has no socket here: it matches where all is negated."""
    routed.rules("host", f"-A POSTROUTING -m owner {owner} -j DROP", table="mangle")
    request = routed.walk("guest", "far").request
    assert request.outcome is (Outcome.DROPPED if stopped else Outcome.DELIVERED)
    asked = routed.walk("host", "far").request
    assert asked.outcome is Outcome.UNKNOWN, "who asks is not known"
    assert owner in asked.end.because


def test_the_socket_that_a_field_asks_for(routed):
    """In nft a packet without one ends the rule, negated or not."""
    body = (FieldIs(field="meta skuid", ranges=((5, 5),), negate=True), Drop())
    routed.chain("host", "postrouting", *body)
    assert routed.walk("guest", "far").works is True
    assert routed.walk("host", "far").request.outcome is Outcome.UNKNOWN
