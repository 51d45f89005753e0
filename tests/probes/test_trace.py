"""A probe is seen at every link it passes, and its end is what the source's kernel got."""

from __future__ import annotations

import time
from typing import Any

import pytest
from msgspec.structs import replace

from kvmdiag.model.trace import Outcome, Reason, Stage
from kvmdiag.probes.disagreement import disagreement, likeliest
from kvmdiag.probes.observation import Observation
from kvmdiag.probes.trace import fuse, observe
from kvmdiag.reports import words

THERE = "a/a0> >r/r0 r/br0 r/rb> >b/b0"
BACK = "b/b0> >r/rb r/br0> r/r0> >a/a0"


def places(observation: Observation, direction: Any) -> list[str]:
    """``r/br0 in`` and so on, in the order of time."""
    return [f"{s.place} {s.direction_on_link}" for s in observation.travelling(direction)]


@pytest.mark.parametrize(
    ("destination", "more"),
    [
        ("198.51.100.2", {}),
        ("2001:db8:2::2", {}),
        ("198.51.100.2", {"proto": "tcp", "port": 7}),
        ("2001:db8:2::2", {"proto": "tcp", "port": 7}),
        ("198.51.100.2", {"proto": "udp", "port": 7}),
        ("2001:db8:2::2", {"proto": "udp", "port": 7}),
    ],
    ids=["icmp", "icmpv6", "tcp", "tcp6", "udp", "udp6"],
)
def test_every_link_shows_request_and_reply(
    routed: Any, asking: Any, walking: Any, echo: Any, destination: str, more: dict[str, Any]
) -> None:
    """Through a bridge, a router and its source NAT, whatever the protocol."""
    echo(routed["b"], destination)
    asked = asking(destination, **more)
    seen = observe(routed.snapshot(), walking(asked, THERE, BACK), timeout=2)
    assert seen.answer is not None
    assert seen.answer.kind == "reply"
    assert places(seen, "request") == [
        "a/a0 out",
        "r/r0 otherhost",
        "r/br0 in",
        "r/rb out",
        "b/b0 in",
    ]
    assert places(seen, "reply") == ["b/b0 out", "r/rb in", "r/br0 out", "r/r0 out", "a/a0 in"]
    sources = [str(s.packet.src) for s in seen.travelling("request")]
    if ":" in destination:
        assert set(sources) == {"2001:db8:1::2"}
    else:
        assert sources == ["192.0.2.2"] * 3 + ["198.51.100.1"] * 2


def test_of_several_ways_the_one_that_was_taken_is_shown(
    routed: Any, asking: Any, walking: Any, echo: Any
) -> None:
    """What chance decides is told by what was seen, and is no disagreement."""
    echo(routed["b"], "198.51.100.2")
    asked = asking("198.51.100.2")
    taken = walking(asked, THERE, BACK)
    others = walking(asked, "a/a0> >r/r0 r/br0 r/rc> >c/c0", "c/c0> >r/rc r/br0> r/r0> >a/a0")
    seen = observe(routed.snapshot(), taken, timeout=2)
    predicted = likeliest(replace(others, alternatives=(taken,)), seen)
    assert predicted == taken
    assert likeliest(replace(taken, alternatives=(others,)), seen) == taken
    assert all(hop.seen is not False for hop in fuse(predicted, seen).hops)


def test_a_bridge_shows_what_it_merely_bridges(routed: Any, asking: Any, walking: Any) -> None:
    """As under tcpdump: the frame from port to port is seen on the bridge, for another host."""
    predicted = walking(
        asking("192.0.2.3"), "a/a0> >r/r0 =r/br0 r/r1> >c/c0", "c/c0> >r/r1 =r/br0 r/r0> >a/a0"
    )
    seen = observe(routed.snapshot(), predicted, timeout=2)
    expected = ["a/a0 out", "r/r0 otherhost", "r/br0 otherhost", "r/r1 out", "c/c0 in"]
    assert places(seen, "request") == expected
    fused = fuse(predicted, seen)
    assert fused.works is True
    assert [hop.seen for hop in fused.hops] == [True] * 10
    assert disagreement(fused, fused) is None
    times = [hop.time_us for hop in fused.hops if hop.stage is not Stage.BRIDGE]
    assert times == sorted(times)


def test_silent_loss_in_the_middle_names_the_last_place(
    routed: Any, asking: Any, walking: Any
) -> None:
    """A model that knew nothing of the rule is corrected, in a second on an idle machine."""
    routed["r"].run("iptables -A FORWARD -o rb -j DROP")
    predicted = walking(asking("198.51.100.2"), "a/a0> >r/r0 r/br0 r/rb> >b/b0", BACK)
    begin = time.monotonic()
    seen = observe(routed.snapshot(), predicted, timeout=1)
    assert time.monotonic() - begin < 5  # a second of patience, and room for a busy machine
    assert not seen.reached
    assert str(seen.last_seen) == "r/br0"
    fused = fuse(predicted, seen)
    assert fused.works is False
    assert fused.decisive.outcome is Outcome.DROPPED
    assert str(fused.decisive.end.place) == "r/br0"
    assert "r/rb" in fused.decisive.end.because
    assert "expected" in str(disagreement(predicted, fused))


def test_a_predicted_loss_that_fits_keeps_its_reason(
    routed: Any, asking: Any, walking: Any
) -> None:
    """What the model knows of the rule is more than a capture can show."""
    routed["r"].run("iptables -A FORWARD -o rb -j DROP")
    predicted = walking(
        asking("198.51.100.2"),
        "a/a0> >r/r0 >r/br0",
        outcome=Outcome.DROPPED,
        reason=Reason.NETFILTER,
    )
    fused = fuse(predicted, observe(routed.snapshot(), predicted, timeout=1))
    assert fused.works is False
    assert fused.decisive.reason is Reason.NETFILTER
    assert [hop.predicted for hop in fused.hops] == [True] * 3


def test_strict_rp_filter_in_the_source(routed: Any, asking: Any, walking: Any) -> None:
    """The reply is captured on the source's NIC and yet does not arrive: the socket decides."""
    a = routed["a"]
    a.ip(
        "link add other type veth peer name far",
        "link set other up",
        "addr add 203.0.113.1/24 dev other",
    )
    a.ip("route replace default dev other")
    a.ip("route add default via 192.0.2.1 dev a0 metric 9")
    a.sysctl("net.ipv4.conf.all.rp_filter", 1)
    predicted = walking(asking("198.51.100.2", link="a0"), THERE, BACK)
    seen = observe(routed.snapshot(), predicted, timeout=1)
    assert places(seen, "reply")[-1] == "a/a0 in"
    assert not seen.reached
    fused = fuse(predicted, seen)
    assert fused.request.arrived is True
    assert fused.reply is not None
    assert fused.reply.outcome is Outcome.DROPPED
    assert str(fused.reply.end.place) == "a/a0"
    a.sysctl("net.ipv4.conf.all.rp_filter", 0)
    assert observe(routed.snapshot(), predicted, timeout=1).reached


def test_a_next_hop_that_is_remembered(routed: Any, asking: Any, walking: Any) -> None:
    """Nobody would answer for it, but the source knows a MAC address and sends; nobody takes it."""
    a = routed["a"]
    a.ip("neigh replace 192.0.2.1 lladdr 02:00:00:00:00:99 dev a0 nud permanent")
    predicted = walking(asking("198.51.100.2"), "a/a0 a/a0>", outcome=Outcome.UNRESOLVED)
    asked_in_vain = replace(predicted.request.end, stage=Stage.NEIGHBOUR)
    hops = (*predicted.request.hops[:-1], asked_in_vain)
    predicted = replace(predicted, request=replace(predicted.request, hops=hops))
    fused = fuse(predicted, observe(routed.snapshot(), predicted, timeout=0.5))
    assert fused.decisive.outcome is Outcome.DROPPED
    assert "expected it to end before" in fused.decisive.end.because


def test_arrival_against_the_prediction(routed: Any, asking: Any, walking: Any) -> None:
    """What was seen wins, with hops that nobody predicted, and the disagreement is told."""
    predicted = walking(
        asking("198.51.100.2"),
        "a/a0> >r/r0",
        outcome=Outcome.DROPPED,
        reason=Reason.NETFILTER,
    )
    fused = fuse(predicted, observe(routed.snapshot(), predicted, timeout=1))
    assert fused.works is True
    assert {str(h.place) for h in fused.hops if not h.predicted} >= {"r/rb", "b/b0"}
    assert "expected" in str(disagreement(predicted, fused))


def test_a_rejection_is_recognised_by_its_quotation(routed: Any, asking: Any, walking: Any) -> None:
    """An ICMP error names the probe inside; the sender was told."""
    routed["r"].run("iptables -A FORWARD -o rb -j REJECT --reject-with icmp-admin-prohibited")
    predicted = walking(asking("198.51.100.2"), THERE, BACK)
    seen = observe(routed.snapshot(), predicted, timeout=1)
    assert seen.answer is not None
    assert seen.answer.kind == "error"
    assert [str(s.place) for s in seen.sightings if s.quoted][-1] == "a/a0"
    fused = fuse(predicted, seen)
    assert fused.decisive.outcome is Outcome.REJECTED
    assert str(fused.decisive.end.place) == "r/br0"


def test_a_closed_port_is_a_refusal(routed: Any, asking: Any, walking: Any) -> None:
    """A TCP reset travelled the whole way: reached the machine, not the service."""
    predicted = walking(asking("198.51.100.2", proto="tcp", port=99), THERE, BACK)
    fused = fuse(predicted, observe(routed.snapshot(), predicted, timeout=1))
    assert fused.works is False
    assert fused.request.outcome is Outcome.REJECTED
    assert all(hop.seen for hop in fused.hops if hop.predicted)


def test_a_refusal_from_outside(routed: Any, asking: Any, walking: Any) -> None:
    """The packet left by the uplink, so neither the host nor its uplink has rejected it."""
    predicted = walking(
        asking("198.51.100.2", proto="tcp", port=99),
        "a/a0> >r/r0 r/br0 r/rb>",
        "r/rb r/br0 r/r0> >a/a0",
        outcome=Outcome.LEFT,
        reason=Reason.LEFT,
    )
    fused = fuse(predicted, observe(routed.snapshot("a", "r"), predicted, timeout=1))
    assert fused.works is False
    assert words.ending(fused.decisive).startswith("the packet is rejected at outside: ")


def test_a_predicted_reset_keeps_its_rule(routed: Any, asking: Any, walking: Any) -> None:
    """The rule that the model knows says more than 'nobody listens there, or a firewall'."""
    routed["r"].run("iptables -A FORWARD -p tcp -j REJECT --reject-with tcp-reset")
    asked = asking("198.51.100.2", proto="tcp", port=99)
    way = {"outcome": Outcome.REJECTED, "reason": Reason.NETFILTER}
    predicted = walking(asked, "a/a0> >r/r0 >r/br0", **way)
    fused = fuse(predicted, observe(routed.snapshot(), predicted, timeout=1))
    assert fused.works is False
    assert fused.decisive.reason is Reason.NETFILTER
    # The same prediction, and b itself has said no.
    routed["r"].run("iptables -F FORWARD")
    fused = fuse(predicted, observe(routed.snapshot(), predicted, timeout=1))
    assert fused.decisive.reason is Reason.NOT_MODELLED


def test_silence_from_outside_is_told_as_such(routed: Any, asking: Any, walking: Any) -> None:
    """The request left by the uplink; of the beyond only the missing answer is known."""
    predicted = walking(
        asking("198.51.100.77"),
        "a/a0> >r/r0 r/br0 r/rb>",
        "r/rb",
        outcome=Outcome.LEFT,
        reason=Reason.LEFT,
    )
    routed["r"].ip("neigh add 198.51.100.77 lladdr 02:00:00:00:00:77 dev rb")
    fused = fuse(predicted, observe(routed.snapshot("a", "r"), predicted, timeout=0.5))
    assert fused.works is False
    assert fused.request.outcome is Outcome.LEFT
    assert fused.decisive.direction == "reply"
    assert fused.decisive.end.decision == "no answer"


def test_the_source_without_a_route(routed: Any, asking: Any, walking: Any) -> None:
    """The kernel refuses to send: an observation like any other."""
    routed["a"].ip("route del default")
    predicted = walking(asking("198.51.100.2"), THERE, BACK)
    seen = observe(routed.snapshot(), predicted, timeout=1)
    assert seen.answer is not None
    assert seen.answer.local
    assert fuse(predicted, seen).works is False
