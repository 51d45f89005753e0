"""Sets, maps and states where the kernel's answer is easily mistaken, judged by it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from differential.networks import ARRIVES, OVER, drop, fate_of, nft, routed
from differential.plan import Ask, Chain, Rule, Stack, Table
from differential.six import six

pytestmark = pytest.mark.kernel

STOPPED = "request dropped netfilter"


@pytest.mark.parametrize(("port", "fate"), [(53, STOPPED), (8080, ARRIVES)])
def test_ranges_of_ports(port, fate):
    """A range of ports that is a prefix in binary, too: nft may write it as one."""
    rule = drop(("in", "udp dport|{ 32-63, 1024-2047 }", False))
    case = routed(Ask("guest", "10.0.2.2", "udp", port), tables=(nft("ip", "forward", rule),))
    assert fate_of(case) == fate


@pytest.mark.parametrize(("mark", "fate"), [("0x13", STOPPED), ("0x23", ARRIVES)])
def test_ranges_of_marks(mark, fate):
    """The same for marks."""
    rules = (Rule((), ("mark", mark)), drop(("in", "meta mark|{ 7, 0x10-0x1f }", False)))
    assert fate_of(routed(OVER, tables=(nft("ip", "forward", *rules),))) == fate


@pytest.mark.parametrize(("priority", "fate"), [(-300, STOPPED), (-150, ARRIVES)])
def test_a_map_of_states_before_conntrack(priority, fate):
    """What conntrack has not seen yet counts as invalid."""
    rules = (
        Rule((), ("vmap", "ct state|{ invalid : drop, new : accept }")),
        Rule((("state", "established", False),), ("accept",)),
    )
    table = nft("ip", "prerouting", *rules, priority=priority)
    assert fate_of(routed(OVER, tables=(table,))) == fate


@pytest.mark.parametrize(
    ("table", "fate"), [("raw", ARRIVES), ("filter", "request unresolved netfilter")]
)
def test_states_of_neighbour_discovery(table, fate):
    """To conntrack it is untracked, and before that invalid."""
    rule = drop(("state", "invalid", True), ("proto", "icmp", False))
    chain = Chain("OUTPUT", (rule,), "output")
    far = Stack(
        "far",
        routes=("default via 10.0.2.1",),
        tables=(Table("legacy", "ip", table, (chain,)),),
    )
    case = six(routed(replace(OVER, proto="udp", port=53), far=far))
    assert fate_of(case) == fate
