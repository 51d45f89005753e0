"""The kernel's own account: in the text short or in full, in JSON always."""

from __future__ import annotations

import io
from ipaddress import ip_address

import pytest
from rich.console import Console

from kvmdiag.model.packet import Packet
from kvmdiag.model.question import Endpoint, Question
from kvmdiag.model.trace import Hop, Outcome, Reason, RuleRef, Stage, Trace, Walk
from kvmdiag.reports.kernel_notes import CounterNote, KernelNotes, MissingNote, RuleNote
from kvmdiag.reports.probe_notes import ProbeNotes
from kvmdiag.reports.trace_json import trace_object
from kvmdiag.reports.trace_text import render_trace

RULE = RuleRef(
    stack="host", family="ip", backend="iptables-nft", table="filter", chain="LIBVIRT_FWI",
    index=1, text="-A LIBVIRT_FWI -o virbr0 -j REJECT", handle=7,
)  # fmt: skip
HOP = Hop(
    direction="request",
    stack="host",
    link="virbr0",
    stage=Stage.FORWARD,
    packet=Packet(src=ip_address("192.0.2.1"), dst=ip_address("192.0.2.9")),
    decision="rejected",
    because=RULE.text,
    decider=RULE,
    seen=True,
    kernel_reason="NETFILTER_DROP at nft_do_chain on virbr0\x1b[2J",
)
WALK = Walk(
    question=Question(
        source=Endpoint(text="g"), destination=Endpoint(text="192.0.2.9", address="192.0.2.9")
    ),
    request=Trace(
        direction="request", outcome=Outcome.REJECTED, reason=Reason.NETFILTER, hops=(HOP,)
    ),
)
NOTES = ProbeNotes(
    reached=False,
    answer=None,
    waited=0.1,
    disagreement="the model expected it to get through",
    kernel=KernelNotes(
        rules=(RuleNote(direction="request", rule=RULE, verdict="drop"),),
        counters=(CounterNote(stack="host", counter="IpExtInNoRoutes", by=2),),
        missing=(MissingNote(source="drop reasons", stack=None, why="not allowed"),),
        diverged_at="host/virbr0",
    ),
)


def shown(verbose: int) -> str:
    """As on a wide terminal without colours."""
    buffer = io.StringIO()
    Console(file=buffer, width=200, no_color=True).print(
        render_trace(WALK, verbose=verbose, notes=NOTES)
    )
    return buffer.getvalue()


def test_reason_owner_and_what_is_missing_are_always_told() -> None:
    """Before the table why it ended and where the model was wrong; nothing hostile gets out."""
    text = shown(0)
    assert "\x1b" not in text
    assert "kernel  NETFILTER_DROP at nft_do_chain on virbr0" in text
    assert "owner  that rule is made by libvirt" in text
    assert "the model expected it to get through; they part at host/virbr0" in text
    assert "not available  drop reasons: not allowed" in text
    assert text.index("owner") < text.index("stack")


@pytest.mark.parametrize("line", ["REJECT: drop  (iptables-nft", "host: IpExtInNoRoutes +2"])
def test_rules_and_counters_are_for_who_wants_them(line: str) -> None:
    """With -v."""
    assert line not in shown(0)
    assert line in shown(1)


def test_json() -> None:
    """Everything, under the probe; owner and reason also where it ended."""
    told = trace_object(WALK, notes=NOTES)
    assert told["dropped_at"]["owner"] == "libvirt"
    assert told["dropped_at"]["kernel_reason"] == HOP.kernel_reason
    kernel = told["probe"]["kernel"]
    assert [(r["owner"], r["verdict"], r["stack"]) for r in kernel["rules"]] == [
        ("libvirt", "drop", "host")
    ]
    assert kernel["counters"] == [{"stack": "host", "counter": "IpExtInNoRoutes", "by": 2}]
    assert kernel["not_available"] == [
        {"source": "drop reasons", "stack": None, "why": "not allowed"}
    ]
    assert kernel["diverged_at"] == "host/virbr0"
