"""Connections that were there before: they keep what was decided when they began."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from kvmdiag.model.activity import Flow, FlowTuple
from kvmdiag.model.packet import KERNEL_CHOOSES
from kvmdiag.model.question import Endpoint, Question
from kvmdiag.simulate.walk import walk

ID = 77


def ping(near: str = "10.1.0.2", answered_to: str = "10.1.0.2", **more) -> Flow:
    """A ping to far, whose answers go to an address."""
    return Flow(
        protocol="icmp",
        original=FlowTuple(source=near, destination="10.2.0.2", icmp_id=ID, icmp_type=8),
        reply=FlowTuple(source="10.2.0.2", destination=answered_to, icmp_id=ID, icmp_type=0),
        **more,
    )


def asked(routed, *flows, number: int | None = ID, proto="icmp"):
    """The walk of a ping with that id or port, where the host knows the flows."""
    snapshot = routed.snapshot
    snapshot = snapshot.with_stack(replace(snapshot.stack("host"), flows=flows))
    question = Question(
        source=Endpoint(text="guest", stack="guest"),
        destination=Endpoint(text="far", stack="far", address="10.2.0.2"),
        source_port=number,
        proto=proto,
    )
    return walk(snapshot, question)


def ends(found):
    """Source and id with which the packet arrives."""
    packet = found.request.end.packet
    return str(packet.src), packet.icmp_id


MASQUERADE = "-A POSTROUTING -o out0 -j MASQUERADE"
ANSWERED = frozenset({"seen-reply", "confirmed"})
ASKED = frozenset({"confirmed", "src-nat-done", "dst-nat-done"})


@pytest.mark.parametrize("status", [ANSWERED, ASKED])
def test_a_rule_that_came_later_does_not_touch_a_connection(routed, status):
    """It goes on untranslated, while a new one is translated."""
    routed.rules("host", MASQUERADE, table="nat")
    assert ends(asked(routed, ping(status=status))) == ("10.1.0.2", ID)
    assert ends(asked(routed, ping(status=status), number=78)) == ("10.2.0.1", 78)


def test_nat_chains_are_asked_about_a_connection_they_have_not_seen_yet(routed):
    """Without an answer it is still new: it is not translated any more, but may be dropped."""
    routed.rules("host", MASQUERADE, table="nat")
    fresh = ping(status=frozenset({"confirmed"}))
    assert ends(asked(routed, fresh)) == ("10.1.0.2", ID)
    routed.rules("host", "-A POSTROUTING -o out0 -j DROP", table="nat")
    assert not asked(routed, fresh).request.arrived
    assert asked(routed, ping(status=ASKED)).request.arrived


def test_a_translation_outlives_its_rule(routed):
    """The rule is gone, conntrack still translates, and the reply finds its way back."""
    routed.rules("host", "-A FORWARD -m conntrack --ctstate NEW -j DROP")
    stale = ping(answered_to="10.2.0.77", status=ANSWERED | ASKED)
    found = asked(routed, stale)
    assert found.request.arrived
    assert ends(found) == ("10.2.0.77", ID)
    assert not asked(routed, stale, number=78).request.arrived


def test_a_reply_of_a_connection_is_established(routed):
    """A packet in reply direction is recognised, and what translated its like undone."""
    routed.rules("host", "-A FORWARD -m conntrack --ctstate NEW -j DROP")
    mirrored = Flow(
        protocol="udp",
        original=FlowTuple(
            source="10.2.0.2", source_port=53, destination="10.1.0.9", destination_port=ID
        ),
        reply=FlowTuple(
            source="10.1.0.2", source_port=ID, destination="10.2.0.2", destination_port=53
        ),
        status=ANSWERED | ASKED,
    )
    found = asked(routed, mirrored, proto="udp")
    assert found.request.arrived
    assert str(found.request.end.packet.src) == "10.1.0.9"


def test_a_ping_is_no_reply_to_a_ping_that_goes_the_other_way(routed):
    """The type of ICMP tells them apart, were their ids the same (nf_conntrack_proto_icmp.c)."""
    routed.rules("host", "-A FORWARD -m conntrack --ctstate NEW -j DROP")
    back = Flow(
        protocol="icmp",
        original=FlowTuple(source="10.2.0.2", destination="10.1.0.2", icmp_id=ID, icmp_type=8),
        reply=FlowTuple(source="10.1.0.2", destination="10.2.0.2", icmp_id=ID, icmp_type=0),
        status=ANSWERED | ASKED,
    )
    assert not asked(routed, back).request.arrived


def test_another_connection_with_the_same_answers_makes_the_kernel_choose(routed):
    """Two pings with one id behind one address: the id of the new one is drawn by lot."""
    routed.rules("host", MASQUERADE, table="nat")
    other = ping(near="10.1.0.3", answered_to="10.2.0.1", status=ANSWERED | ASKED)
    assert ends(asked(routed, other)) == ("10.2.0.1", KERNEL_CHOOSES)
    assert asked(routed, other).works is True
