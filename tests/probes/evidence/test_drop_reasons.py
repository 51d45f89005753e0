"""The kernel's reason, function and device for every way to lose a packet without a word."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from kvmdiag.model.question import Endpoint, Question
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.trace import Outcome, Reason, RuleRef
from kvmdiag.probes.evidence.drops import MOST, DropWatch
from kvmdiag.probes.evidence.nft_trace import NftTrace
from kvmdiag.probes.packet import build, new_probe
from kvmdiag.system.namespaces import entered

OTHER_SIDE = "198.51.100.2"
SAME_BRIDGE = "192.0.2.3"


def nft_drop(net: Any) -> None:
    """A rule of nft's own."""
    net["r"].run("nft add table inet t")
    net["r"].run(["nft", "add chain inet t passing { type filter hook forward priority 5; }"])
    net["r"].run("nft add rule inet t passing ip daddr 198.51.100.2 counter drop")


def iptables_drop(net: Any) -> None:
    """A rule of iptables, which nf_tables carries out."""
    net["r"].run("iptables-nft -A FORWARD -o rb -j DROP")


def legacy_drop(net: Any) -> None:
    """A rule of legacy iptables."""
    net["r"].run("iptables-legacy -A FORWARD -o rb -j DROP")


def bridge_drop(net: Any) -> None:
    """A rule of ebtables' successor, for what is bridged."""
    net["r"].run("nft add table bridge t")
    net["r"].run(["nft", "add chain bridge t passing { type filter hook forward priority 0; }"])
    net["r"].run("nft add rule bridge t passing oifname r1 ip protocol icmp drop")


def rp_filter(net: Any) -> None:
    """The way back is by another link."""
    net["r"].ip("link add other type bridge", "link set other up")
    net["r"].ip("route add 192.0.2.2/32 dev other")
    net["r"].sysctl("net.ipv4.conf.all.rp_filter", 1)
    # It also keeps the router from answering ARP, so that its address must be known.
    net["a"].ip("neigh replace 192.0.2.1 lladdr 02:00:00:00:00:01 dev a0 nud permanent")


def no_route(net: Any) -> None:
    """Nowhere to go."""
    net["r"].ip("addr flush dev rb")


def blackhole(net: Any) -> None:
    """A route that swallows."""
    net["r"].ip("route add blackhole 198.51.100.2/32")


def forwarding_off(net: Any) -> None:
    """The link that brings it does not forward."""
    net["r"].sysctl("net.ipv4.conf.br0.forwarding", 0)


def isolated(net: Any) -> None:
    """Two ports that may not talk to each other."""
    net["r"].ip("link set r0 type bridge_slave isolated on")
    net["r"].ip("link set r1 type bridge_slave isolated on")
    # ARP is stopped as well, so that the neighbours must be known.
    for one, other in (("a", "c"), ("c", "a")):
        mac = net[other].run(["cat", f"/sys/class/net/{other}0/address"]).stdout.strip()
        address = "192.0.2.3" if other == "c" else "192.0.2.2"
        net[one].ip(f"neigh replace {address} lladdr {mac} dev {one}0 nud permanent")


def ttl(net: Any) -> None:
    """It may go no further than the router."""
    net["a"].sysctl("net.ipv4.ip_default_ttl", 1)


def mtu(net: Any) -> None:
    """Too long for the next link, and not to be cut up."""
    net["r"].ip("link set rb mtu 68")


CASES = [
    (nft_drop, OTHER_SIDE, "NETFILTER_DROP at nft_do_chain on br0", Reason.NETFILTER),
    (iptables_drop, OTHER_SIDE, "NETFILTER_DROP at nft_do_chain on br0", Reason.NETFILTER),
    (legacy_drop, OTHER_SIDE, "NETFILTER_DROP at nf_hook_slow on br0", Reason.NETFILTER),
    (bridge_drop, SAME_BRIDGE, "NETFILTER_DROP at nft_do_chain on r1", Reason.NETFILTER),
    (rp_filter, OTHER_SIDE, "IP_RPFILTER at ip_rcv_finish_core on br0", Reason.RP_FILTER),
    (no_route, OTHER_SIDE, "IP_INNOROUTES at ip_error on br0", Reason.NO_ROUTE),
    (blackhole, OTHER_SIDE, "NOT_SPECIFIED at ip_error on br0", Reason.NO_ROUTE),
    (forwarding_off, OTHER_SIDE, "IP_INADDRERRORS at ip_error on br0", Reason.FORWARDING_OFF),
    (ttl, OTHER_SIDE, "IP_INHDR at ip_forward on br0", Reason.TTL),
    (mtu, OTHER_SIDE, "PKT_TOO_BIG at ip_forward on br0", Reason.MTU),
]
NAMES = [case[0].__name__ for case in CASES]


@pytest.mark.parametrize(("fault", "destination", "reason", "meaning"), CASES, ids=NAMES)
def test_reason_symbol_and_device(
    routed: Any,
    tracing: Callable[..., Any],
    fault: Callable[[Any], None],
    destination: str,
    reason: str,
    meaning: Reason,
) -> None:
    """As the kernel names them, at the very stack, and in the words of the model."""
    fault(routed)
    traced = tracing(destination)
    end = traced.fused.decisive.end
    assert traced.reason == reason
    assert end.stack == "host"
    assert traced.fused.decisive.direction == "request"
    assert traced.fused.works is False
    assert traced.fused.decisive.reason is meaning
    assert traced.evidence.unavailable == ()


@pytest.mark.parametrize(("fault", "destination", "reason", "meaning"), CASES, ids=NAMES)
def test_the_kernel_is_believed_where_the_model_was_wrong(
    routed: Any,
    tracing: Callable[..., Any],
    fault: Callable[[Any], None],
    destination: str,
    reason: str,
    meaning: Reason,
    before: Any,
) -> None:
    """A fault that came after the facts were read: all is told by the kernel alone."""
    expected = before(routed)
    fault(routed)
    traced = tracing(destination, expected=expected)
    assert traced.predicted.works
    assert traced.reason == reason
    assert traced.fused.decisive.reason is meaning
    assert traced.fused.decisive.outcome in (Outcome.DROPPED, Outcome.REJECTED, Outcome.NO_ROUTE)
    if reason.startswith("NETFILTER"):
        assert isinstance(traced.fused.decisive.end.decider, RuleRef)


def test_a_bridge_that_is_to_stop_it_says_so(routed: Any, tracing: Callable[..., Any]) -> None:
    """It is not watched itself: promiscuous it would take the frame, and drop nothing."""
    isolated(routed)
    traced = tracing(SAME_BRIDGE)
    assert traced.fused.decisive.reason is Reason.ISOLATED
    assert traced.fused.decisive.end.stack == "host"
    assert str(traced.reason).startswith("NOT_SPECIFIED at br_handle_frame_finish")


def test_a_watched_bridge_hides_its_reason(
    routed: Any, tracing: Callable[..., Any], before: Any
) -> None:
    """Where nobody expected it to stop anything; no other drop is taken for this one then."""
    expected = before(routed)
    isolated(routed)
    traced = tracing(SAME_BRIDGE, expected=expected)
    assert traced.fused.works is False
    assert traced.reason is None
    assert str(traced.seen.last_seen) == "host/br0"


@pytest.mark.parametrize(
    ("destination", "more"),
    [
        (OTHER_SIDE, {"proto": "tcp", "port": 7}),
        (OTHER_SIDE, {"proto": "udp", "port": 7}),
        ("2001:db8:2::2", {}),
        ("2001:db8:2::2", {"proto": "tcp", "port": 7}),
        ("2001:db8:2::2", {"proto": "udp", "port": 7}),
    ],
    ids=["tcp", "udp", "icmpv6", "tcp6", "udp6"],
)
def test_every_protocol_is_recognised_in_the_kernel(
    routed: Any, tracing: Callable[..., Any], destination: str, more: dict[str, Any]
) -> None:
    """By the rule's trace as by the drop."""
    program = "ip6tables-nft" if ":" in destination else "iptables-nft"
    routed["r"].run(f"{program} -A FORWARD -o rb -j DROP")
    traced = tracing(destination, **more)
    assert traced.reason == "NETFILTER_DROP at nft_do_chain on br0"
    assert [one.verdict for one in traced.evidence.verdicts] == ["drop"]


@pytest.mark.parametrize(
    ("proto", "port", "table"), [("icmp", None, "ip"), ("tcp", 7, "inet"), ("udp", 7, "ip")]
)
def test_a_reply_that_is_dropped(
    routed: Any, tracing: Callable[..., Any], echo: Any, proto: str, port: int | None, table: str
) -> None:
    """On its way back, by a rule the model did not know of."""
    echo(routed["b"], OTHER_SIDE)
    routed["r"].run(f"nft add table {table} t")
    routed["r"].run(["nft", f"add chain {table} t back {{ type filter hook forward priority 0; }}"])
    routed["r"].run(f"nft add rule {table} t back iifname rb drop")
    more = {} if port is None else {"port": port}
    traced = tracing(OTHER_SIDE, proto=proto, **more)
    assert traced.fused.decisive.direction == "reply"
    assert traced.fused.decisive.reason is Reason.NETFILTER
    assert traced.reason == "NETFILTER_DROP at nft_do_chain on rb"


def test_a_guest_that_sends_the_probe_without_end(routed: Any) -> None:
    """It makes the kernel tell of some hundreds, and the trace take no longer."""
    routed["r"].run("iptables-nft -A FORWARD -o rb -j DROP")
    probe = new_probe(_question())
    message = build(probe, "192.0.2.2", OTHER_SIDE)
    with entered(routed["r"].path):
        trace = NftTrace((probe,))
    drops = DropWatch(Snapshot(tool="", taken_at="", kernel="", stacks=()), (probe,), None)
    try:
        with entered(routed["a"].path):
            sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        with sender:
            for _ in range(20_000):
                sender.sendto(message, (OTHER_SIDE, 0))
        started = time.process_time()
        trace.drain()
        drops.drain()
        assert time.process_time() - started < 1
        assert 1 <= len(trace.events()) < 2000
        assert 1 <= len(drops.drops(0, ())) <= MOST
    finally:
        trace.close()
        drops.close()


def _question() -> Question:
    return Question(
        source=Endpoint(text="a"), destination=Endpoint(text=OTHER_SIDE, address=OTHER_SIDE)
    )
