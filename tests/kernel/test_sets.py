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


@pytest.mark.parametrize("proto", ["icmp", "tcp"])
def test_a_set_of_ports_holds_nothing_without_a_port(proto):
    """A ping is not in it, so the negated match is true."""
    rule = Rule((("ipset", "services dst", True),), ("drop",))
    case = routed(
        Ask("guest", "10.0.2.2", proto, None if proto == "icmp" else 80),
        ipsets=("create services bitmap:port range 0-1000", "add services 80"),
        tables=(Table("legacy", "ip", "filter", (Chain("FORWARD", (rule,), "forward"),)),),
    )
    assert fate_of(case) == (STOPPED if proto == "icmp" else "reply dropped netfilter")


@pytest.mark.parametrize("backend", ["nft", "iptables"])
def test_a_mark_is_restored_from_connections_only(backend):
    """Before conntrack there is none: nft breaks off the rule, iptables leaves the mark alone."""
    rules = (
        Rule((), ("mark", "7")),
        Rule((), ("restore",)),
        drop(("mark", "7", False)),
    )
    chain = Chain("OUTPUT" if backend == "iptables" else "c", rules, "output", "filter", -300)
    raw = (Chain("OUTPUT", (Rule((), ("notrack",)),), "output"),)
    tables = [Table("nft", "ip", "early", (chain,))]
    if backend == "iptables":
        tables = [Table("iptables", "ip", "raw", raw), Table("iptables", "ip", "mangle", (chain,))]
    guest = Stack("guest", routes=("default via 10.0.1.1",), tables=tuple(tables))
    assert fate_of(routed(OVER, guest=guest)) == STOPPED
