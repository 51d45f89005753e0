"""The comparison itself: with a piece of the model taken out, the kernel objects."""

from __future__ import annotations

import pytest
from differential.judge import judge
from differential.networks import (
    ACROSS,
    CALL,
    OVER,
    bridged,
    drop,
    iptables,
    nft,
    roundabout,
    routed,
)
from differential.plan import Ask, Chain, Rule, Stack, Table

pytestmark = pytest.mark.kernel


def _nothing(*_: object, **__: object) -> bool:
    return False


@pytest.mark.parametrize(
    ("broken", "case"),
    [
        (
            "kvmdiag.simulate.way.bridging.calls_netfilter",
            bridged(
                ACROSS,
                sysctls=((CALL, 1),),
                tables=(iptables("filter", "FORWARD", policy="drop"),),
            ),
        ),
        (
            "kvmdiag.simulate.segment.obstacles.are_isolated",
            bridged(ACROSS, ports=(("isolated", "on"), ("isolated", "on"))),
        ),
        (
            "kvmdiag.simulate.rules.hook._Hook._route_again",
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
        (
            "kvmdiag.simulate.facts.conntrack._is_early",
            roundabout(
                Ask("guest", "10.0.2.2", "tcp", 80),
                tables=(iptables("filter", "FORWARD", drop(("state", "invalid", False))),),
            ),
        ),
    ],
)
def test_a_walk_that_is_wrong_is_noticed(monkeypatch, broken, case):
    """The comparison itself: with a piece of the model taken out, the kernel objects."""
    monkeypatch.setattr(broken, _nothing)
    assert judge(case).complaints


@pytest.mark.parametrize("backend", ["iptables", "legacy"])
def test_a_walk_that_names_the_wrong_rule_is_noticed(monkeypatch, backend):
    """Though everything ends where it should: by the kernel's trace, and by counters."""
    rules = (drop(("proto", "udp", False)), drop(("proto", "icmp", False)))
    table = Table(backend, "ip", "filter", (Chain("FORWARD", rules, "forward"),))
    case = routed(OVER, tables=(table,))
    assert not judge(case).complaints

    def first(rule, seen):
        return rule.chain.ref(seen.at.view.name, 0, bridged=False)

    monkeypatch.setattr("kvmdiag.simulate.rules.program.CompiledRule.ref", first)
    assert judge(case).complaints
