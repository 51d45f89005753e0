"""Rule after rule, as the packet met them: in nft's own tables, iptables' and legacy ones."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kvmdiag.model.trace import Stage

OTHER_SIDE = "198.51.100.2"
NFLOG = "net.netfilter.nf_log.2"
LISTENER = """
import sys, time
from pathlib import Path
from kvmdiag.probes.evidence.nfnetlink import ULOG, Channel, Request, attribute
channel = Channel()
channel.ask(Request(ULOG << 8 | 1, 0, attribute(1, bytes([1]))))
Path(sys.argv[1]).touch()
time.sleep(60)
"""


def met(traced: Any, direction: str = "request") -> list[tuple[str, str, str | None]]:
    """Chain, text and verdict of every rule that said something."""
    return [
        (one.rule.chain, one.rule.text, one.verdict)
        for one in traced.evidence.verdicts
        if one.direction == direction
    ]


def test_the_way_through_chains_of_iptables(routed: Any, tracing: Callable[..., Any]) -> None:
    """Jumps, what is said in a chain, and policies; request and reply apart."""
    routed["r"].run("iptables-nft -N GUESTS")
    routed["r"].run("iptables-nft -A FORWARD -j GUESTS")
    routed["r"].run("iptables-nft -A GUESTS -p tcp -j DROP")
    routed["r"].run("iptables-nft -A GUESTS -p icmp -j ACCEPT")
    traced = tracing(OTHER_SIDE)
    assert traced.seen.reached
    way = [
        ("FORWARD", "-A FORWARD -j GUESTS", "jump GUESTS"),
        ("GUESTS", "-A GUESTS -p icmp -j ACCEPT", "accept"),
    ]
    translated = "-A POSTROUTING -s 192.0.2.0/24 -o rb -j MASQUERADE"
    assert met(traced) == [*way, ("POSTROUTING", translated, "accept")]
    assert met(traced, "reply") == way


def test_the_links_that_netfilter_saw(routed: Any, tracing: Callable[..., Any]) -> None:
    """By name, at every rule of a base chain."""
    routed["r"].run("iptables-nft -A FORWARD -j ACCEPT")
    verdict = next(v for v in tracing(OTHER_SIDE).evidence.verdicts if v.rule.chain == "FORWARD")
    assert (verdict.in_link, verdict.out_link) == ("br0", "rb")


def test_legacy_tables_and_their_policies(routed: Any, tracing: Callable[..., Any]) -> None:
    """By number, with the text of the snapshot, and what the target says."""
    r = routed["r"]
    r.run("iptables-legacy -N GUESTS")
    r.run("iptables-legacy -A FORWARD -p udp -j DROP")
    r.run("iptables-legacy -A FORWARD -j GUESTS")
    r.run("iptables-legacy -A GUESTS -p icmp -j ACCEPT")
    traced = tracing(OTHER_SIDE)
    legacy = [v for v in traced.evidence.verdicts if v.rule.backend == "iptables-legacy"]
    assert [(v.direction, v.rule.chain, v.rule.index, v.verdict) for v in legacy] == [
        (way, chain, index, verdict)
        for way in ("request", "reply")
        for chain, index, verdict in (("FORWARD", 1, "jump GUESTS"), ("GUESTS", 0, "accept"))
    ]
    assert legacy[0].rule.text == "-A FORWARD -j GUESTS"
    assert traced.evidence.unavailable == ()


def test_a_legacy_rule_that_the_model_did_not_know_of(
    routed: Any, tracing: Callable[..., Any], before: Any
) -> None:
    """The rule that decided is told, and at which hook."""
    routed["r"].run("iptables-legacy -A FORWARD -p udp -j DROP")
    expected = before(routed)
    routed["r"].run("iptables-legacy -A FORWARD -p icmp -j DROP")
    traced = tracing(OTHER_SIDE, expected=expected)
    end = traced.fused.decisive.end
    assert (end.stage, end.decider.text) == (Stage.FORWARD, "-A FORWARD -p icmp -j DROP")
    assert not end.predicted


def test_the_kernels_log_is_left_as_it_was(routed: Any, tracing: Callable[..., Any]) -> None:
    """It goes to NFLOG only as long as the trace takes."""
    routed["r"].run("iptables-legacy -A FORWARD -j ACCEPT")
    found = routed["r"].sysctl(NFLOG)
    assert found != "nfnetlink_log"
    assert tracing(OTHER_SIDE).evidence.unavailable == ()
    assert routed["r"].sysctl(NFLOG) == found


def test_somebody_else_listens_to_nflog(
    routed: Any, tracing: Callable[..., Any], eventually: Any, tmp_path: Path
) -> None:
    """Then it is theirs; the legacy tables are not traced at all, and that is told."""
    routed["r"].run("iptables-legacy -A FORWARD -p icmp -j DROP")
    found = routed["r"].sysctl(NFLOG)
    ready = tmp_path / "ready"
    routed["r"].start([sys.executable, "-c", LISTENER, str(ready)])
    eventually(ready.exists, "nobody listens")
    traced = tracing(OTHER_SIDE)
    assert routed["r"].sysctl(NFLOG) == found
    missed = {one.source: one.why for one in traced.evidence.unavailable}
    assert missed["legacy rule verdicts"] == "another program listens to NFLOG group 0"
    assert "kernel's log" in missed["rule verdicts"]
    # The counter of the rule tells it nevertheless.
    assert traced.fused.decisive.end.decider.text == "-A FORWARD -p icmp -j DROP"


def test_counters_that_grew(routed: Any, tracing: Callable[..., Any]) -> None:
    """Of rules of every kind, and of the protocols."""
    r = routed["r"]
    r.run("iptables-nft -A FORWARD -p icmp -j ACCEPT")
    r.run("iptables-legacy -A FORWARD -p icmp -j ACCEPT")
    r.ip("route add blackhole 203.0.113.9/32")
    grown = {
        (one.rule.backend, one.rule.chain): one.by
        for one in tracing(OTHER_SIDE).evidence.changes
        if one.rule is not None
    }
    assert grown["iptables-nft", "FORWARD"] == 2
    assert grown["iptables-legacy", "FORWARD"] == 2
    assert grown["iptables-nft", "POSTROUTING"] == 1
    routed["b"].ip("link set b0 down")
    routed["r"].ip("addr flush dev rb")
    changes = {one.what: one.by for one in tracing(OTHER_SIDE).evidence.changes}
    assert changes["IpExtInNoRoutes"] == 1
