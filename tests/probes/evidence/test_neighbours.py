"""A next hop that does not answer: told seconds before the kernel drops what waits for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kvmdiag.model.trace import Outcome, Reason, Stage


@pytest.mark.parametrize(
    "destination",
    ["198.51.100.2", "2001:db8:2::2"],
    ids=["arp", "nd"],
)
def test_the_router_asks_in_vain(
    routed: Any, tracing: Callable[..., Any], before: Any, destination: str
) -> None:
    """Though the model expected an answer; where, whom and by which link."""
    expected = before(routed)
    routed["b"].ip("addr flush dev b0")
    traced = tracing(destination, expected=expected)
    trace = traced.fused.decisive
    assert traced.predicted.works
    assert (trace.outcome, trace.reason) == (Outcome.UNRESOLVED, Reason.UNRESOLVED)
    assert (str(trace.end.place), trace.end.stage) == ("host/rb", Stage.NEIGHBOUR)
    assert traced.reason == f"neighbour {destination} on rb is INCOMPLETE"


def test_one_that_nobody_waits_for_is_no_reason(routed: Any, tracing: Callable[..., Any]) -> None:
    """The router asks for somebody else meanwhile; the rule is what stops the probe."""
    routed["r"].run("iptables-nft -A FORWARD -o rb -j DROP")
    routed["r"].run("ping -c1 -W0.1 198.51.100.77", check=False)
    traced = tracing("198.51.100.2")
    assert [one.address for one in traced.evidence.waiting] == ["198.51.100.77"]
    assert traced.fused.decisive.reason is Reason.NETFILTER


def test_the_destination_cannot_answer(
    routed: Any, tracing: Callable[..., Any], before: Any
) -> None:
    """The request got there; it is the reply that waits, in the destination."""
    expected = before(routed)
    routed["b"].ip("route add 198.51.100.1/32 dev b0 via 198.51.100.9 onlink")
    routed["r"].ip("neigh replace 198.51.100.2 dev rb lladdr " + _mac(routed["b"]))
    traced = tracing("198.51.100.2", expected=expected)
    trace = traced.fused.decisive
    assert (trace.direction, trace.outcome) == ("reply", Outcome.UNRESOLVED)
    assert traced.reason == "neighbour 198.51.100.9 on b0 is INCOMPLETE"


def test_a_reply_that_is_dropped_before_it_leaves(
    routed: Any, tracing: Callable[..., Any], before: Any
) -> None:
    """By the destination's own OUTPUT: no link ever shows it."""
    expected = before(routed)
    routed["b"].run("iptables-nft -A OUTPUT -p icmp -j DROP")
    traced = tracing("198.51.100.2", expected=expected)
    trace = traced.fused.decisive
    assert (trace.direction, trace.reason) == ("reply", Reason.NETFILTER)
    assert (trace.end.stack, trace.end.stage) == ("b", Stage.OUTPUT)
    assert trace.end.because.startswith("-A OUTPUT -p icmp -j DROP")


def _mac(guest: Any) -> str:
    return str(guest.run("cat /sys/class/net/b0/address").stdout.strip())
