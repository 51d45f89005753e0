"""A trace for people and for scripts: what NAT changed, what was seen, where it ended."""

from __future__ import annotations

import io
import json
from ipaddress import ip_address
from typing import Any

from rich.console import Console

from kvmdiag.model.packet import Packet
from kvmdiag.model.question import Endpoint, Question
from kvmdiag.model.trace import Hop, Outcome, Reason, RuleRef, Stage, Trace, Walk
from kvmdiag.reports.probe_notes import ProbeNotes
from kvmdiag.reports.trace_json import render_trace as render_json
from kvmdiag.reports.trace_text import render_trace, render_verdict

RULE = RuleRef(
    stack="host",
    family="ip",
    backend="nft",
    table="filter",
    chain="forward",
    index=None,
    text="policy drop",
)


def hop(link: str, stage: Stage, source: str, **more: Any) -> Hop:
    """A hop on the host."""
    packet = Packet(src=ip_address(source), dst=ip_address("192.0.2.9"))
    more = {"decision": "passes", "seen": True, "time_us": 12.25} | more
    return Hop(direction="request", stack="host", link=link, stage=stage, packet=packet, **more)


LOST = Walk(
    question=Question(
        source=Endpoint(text="g"), destination=Endpoint(text="192.0.2.9", address="192.0.2.9")
    ),
    request=Trace(
        direction="request",
        outcome=Outcome.DROPPED,
        reason=Reason.NETFILTER,
        assumptions=("its address is that of the lease",),
        hops=(
            hop("tap\x1b[2J", Stage.INGRESS, "198.51.100.1"),
            hop("eth0", Stage.ROUTE, "198.51.100.1", decision="routed", seen=None, time_us=None),
            hop("eth0", Stage.EGRESS, "203.0.113.1", seen=False, time_us=None),
            hop("eth0", Stage.FORWARD, "203.0.113.1", decision="dropped", decider=RULE, seen=None),
        ),
    ),
)
NOTES = ProbeNotes(
    reached=False, answer=None, waited=0.4, disagreement="the model was wrong",
    unwatched=(("guest", "cannot be entered"),),
)  # fmt: skip


def text(content: Any) -> str:
    """As on a wide terminal without colours."""
    buffer = io.StringIO()
    Console(file=buffer, width=200, no_color=True).print(content)
    return buffer.getvalue()


def test_one_row_for_each_link_and_for_the_end() -> None:
    """With both addresses, the time, and the rule that decided; hostile names are escaped."""
    shown = text(render_trace(LOST, notes=NOTES))
    assert "\x1b" not in shown
    assert "tap\\x1b[2J" in shown
    rows = [line for line in shown.splitlines() if line.startswith("→")]
    assert ["✓" in row for row in rows] == [True, False, False]
    assert ["✗" in row for row in rows] == [False, True, False]
    assert "203.0.113.1 > 192.0.2.9" in rows[1]
    assert "nft table ip filter chain forward policy" in rows[2]
    for told in ("not reached", "the model was wrong", "cannot be entered", "of the lease"):
        assert told in shown


def test_verbose_shows_the_steps_between() -> None:
    """Routing too."""
    assert "routed" not in text(render_trace(LOST, notes=NOTES))
    assert "routed" in text(render_trace(LOST, notes=NOTES, verbose=1))


def test_a_prediction_has_no_columns_for_what_was_seen() -> None:
    """And says that it is one."""
    shown = text(render_trace(LOST))
    assert "seen" not in shown
    assert "predicted to fail" in shown
    assert text(render_verdict(LOST)).count("\n") == 1


def test_json_keeps_the_contract() -> None:
    """Keys and values that scripts depend on."""
    told = json.loads(render_json(LOST, notes=NOTES))
    assert told["schema"] == "kvmdiag.trace/1"
    assert (told["outcome"], told["direction"]) == ("dropped", "request")
    assert told["dropped_at"] == {
        "stack": "host",
        "link": "eth0",
        "rule": "nft table ip filter chain forward policy",
        "owner": None,
        "kernel_reason": None,
    }
    first = told["hops"][0]
    assert first["packet"]["src"] == "198.51.100.1"
    assert (first["predicted"], first["seen"], first["time_us"]) == (True, True, 12.25)
    assert told["assumptions"] == ["its address is that of the lease"]
    assert told["probe"]["unwatched"] == {"guest": "cannot be entered"}
    assert json.loads(render_json(LOST))["probe"] is None


MATCHED = RuleRef(
    stack="host",
    family="ip",
    backend="iptables-nft",
    table="filter",
    chain="LIBVIRT_FWO",
    index=2,
    handle=17,
    text="-A LIBVIRT_FWO -i virbr0 -j ACCEPT\x1b[2J",
)


def test_matched_rules_are_shown_with_place_and_owner():
    """With -v, and always in JSON: table, chain, handle, owner and text of each."""
    seen = hop("virbr0", Stage.FORWARD, "198.51.100.1", matched=(MATCHED,))
    walk = Walk(
        question=LOST.question,
        request=Trace(
            direction="request", outcome=Outcome.LEFT, reason=Reason.LEFT, hops=(seen, LOST.hops[0])
        ),
    )
    shown = text(render_trace(walk, verbose=1))
    assert "-A LIBVIRT_FWO -i virbr0 -j ACCEPT" in shown
    assert "table ip filter chain LIBVIRT_FWO rule 3 handle 17, of libvirt" in shown
    assert "\x1b" not in shown
    assert "LIBVIRT_FWO" not in text(render_trace(walk))
    (matched,) = json.loads(render_json(walk))["hops"][0]["matched"]
    assert matched == {
        "backend": "iptables-nft",
        "family": "ip",
        "table": "filter",
        "chain": "LIBVIRT_FWO",
        "handle": 17,
        "owner": "libvirt",
        "text": MATCHED.text,
    }
