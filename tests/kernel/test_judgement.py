"""The comparison itself: with a piece of the model taken out, the kernel objects."""

from __future__ import annotations

import pytest
from differential.judge import judge
from differential.networks import ACROSS, CALL, OVER, bridged, iptables, nft, routed
from differential.plan import Rule, Stack

pytestmark = pytest.mark.kernel


def _nothing(*_: object, **__: object) -> bool:
    return False


@pytest.mark.parametrize(
    ("broken", "case"),
    [
        (
            "kvmdiag.simulate.bridging.calls_netfilter",
            bridged(
                ACROSS,
                sysctls=((CALL, 1),),
                tables=(iptables("filter", "FORWARD", policy="drop"),),
            ),
        ),
        (
            "kvmdiag.simulate.obstacles.are_isolated",
            bridged(ACROSS, ports=(("isolated", "on"), ("isolated", "on"))),
        ),
        (
            "kvmdiag.simulate.originate._marks_reroute",
            routed(
                OVER,
                guest=Stack(
                    "guest",
                    routes=("default via 10.0.1.1",),
                    rules=("pref 9 fwmark 7 blackhole",),
                    tables=(
                        nft("ip", "output", Rule((), ("mark", "7")), kind="route", priority=-150),
                    ),
                ),
            ),
        ),
    ],
)
def test_a_walk_that_is_wrong_is_noticed(monkeypatch, broken, case):
    """The comparison itself: with a piece of the model taken out, the kernel objects."""
    monkeypatch.setattr(broken, _nothing)
    assert judge(case).complaints
