"""Rules that cannot be evaluated: all ways are walked, and what decides is named."""

from __future__ import annotations

from kvmdiag.model.matches import UnknownMatch
from kvmdiag.model.netfilter import Rule
from kvmdiag.model.statements import Accept, Drop, Masquerade, SetMark, UnknownStatement
from kvmdiag.model.trace import Outcome, Reason, Stage


def test_unknown_match_that_decides(routed):
    """Both ways are followed; where they part the walk says unknown, and names the match."""
    body = (UnknownMatch(text="-m time --timestart 08:00"), Drop())
    routed.chain("host", "forward", *body)
    request = routed.walk("guest", "far").request
    assert (request.outcome, request.reason) == (Outcome.UNKNOWN, Reason.NOT_MODELLED)
    assert "--timestart" in request.end.because


def test_unknown_match_that_does_not_matter(routed):
    """If the packet fares alike either way, the unknown is no obstacle."""
    body = (UnknownMatch(text="limit rate 5/second"), Accept())
    routed.chain("host", "forward", *body)
    assert routed.walk("guest", "far").works is True


def test_translation_that_cannot_be_told_and_does_not_matter(routed):
    """Translated or not the packet arrives, and so does the reply: both are said."""
    body = (UnknownMatch(text="-m statistic"), Masquerade())
    routed.chain("host", "postrouting", *body, family="ip", name="p", type="nat", priority=100)
    walk = routed.walk("guest", "far")
    assert walk.works is True
    first, second = walk.request.assumptions
    assert "-m statistic cannot be told" in first
    assert "far as 10.1.0.2 > 10.2.0.2 icmp, or in far as 10.2.0.1 > 10.2.0.2 icmp" in second


def test_a_translation_that_nft_lists_without_its_arguments_is_not_overlooked(routed):
    """It makes the kernel track connections like one that is understood, so the chain is asked."""
    body = (UnknownStatement(text="xt target SNAT"),)
    routed.chain("host", "postrouting", *body, family="ip", name="p", type="nat", priority=100)
    request = routed.walk("guest", "far").request
    assert (request.outcome, request.reason) == (Outcome.UNKNOWN, Reason.NOT_MODELLED)
    assert "xt target SNAT" in request.end.because


def test_translation_that_cannot_be_told_decides_about_the_reply(routed):
    """Untranslated the reply is dropped on its way, elsewhere: the rule is named all the same."""
    body = (UnknownMatch(text="-m statistic"), Masquerade())
    routed.chain("host", "postrouting", *body, family="ip", name="p", type="nat", priority=100)
    routed.rules("far", "-A OUTPUT -d 10.1.0.2 -j DROP")
    walk = routed.walk("guest", "far")
    assert walk.request.arrived
    assert walk.reply.outcome is Outcome.UNKNOWN
    assert walk.reply.end.decider.chain == "p"
    assert walk.reply.end.because == (
        "-m statistic: if it does not match, the reply is dropped in far by"
        " -A OUTPUT -d 10.1.0.2 -j DROP; if it matches, the reply is delivered in guest"
    )


def test_mark_that_cannot_be_told_is_followed_through_routing(routed):
    """A mark decides at a policy rule, far from where it was set."""
    routed.policy("host", 100, action="blackhole", fwmark=7)
    body = (UnknownMatch(text="-m time"), SetMark(of="packet", value=7, mask=0xFFFFFFFF))
    routed.chain("host", "prerouting", *body, family="ip", priority=-150)
    request = routed.walk("guest", "far").request
    assert request.outcome is Outcome.UNKNOWN
    assert request.end.stage is Stage.PREROUTING
    assert "if it matches, the request is dropped in host" in request.end.because


def test_way_that_parts_more_often_than_can_be_followed(routed):
    """Too many rules that cannot be told, each of which changes something: unknown, in time."""
    rules = []
    for bit in range(20):
        mark = SetMark(of="packet", value=1 << bit, mask=1 << bit)
        body = (UnknownMatch(text=f"-m time {bit}"), mark)
        rules.append(Rule(body=body, text=f"mark {bit}"))
    routed.chain("host", "prerouting", family="ip", priority=-150, rules=tuple(rules))
    request = routed.walk("guest", "far").request
    assert request.outcome is Outcome.UNKNOWN
    assert "-m time" in request.end.because
