"""What ``nft -j list ruleset`` means."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmdiag.model.netfilter import (
    Accept,
    AddressIs,
    AddressTypeIs,
    ConntrackStateIs,
    DestinationNat,
    FamilyIs,
    IcmpTypeIs,
    InterfaceIs,
    MarkIs,
    NoEffect,
    PortIs,
    ProtocolIs,
    Reject,
    SetMark,
    UnknownMatch,
    UnknownStatement,
)
from kvmdiag.parse.errors import ParseError
from kvmdiag.parse.nft import parse_ruleset

MARK = {"meta": {"key": "mark"}}
TCP = ProtocolIs(protocols=("tcp",))
V4 = FamilyIs(families=("ip",))


def payload(protocol, field):
    """A header field, as nft prints it."""
    return {"payload": {"protocol": protocol, "field": field}}


def match(left, right, op="=="):
    """A comparison, as nft prints it."""
    return {"match": {"op": op, "left": left, "right": right}}


def rule_of(*expressions, family="inet", elements=()):
    """The rule that these expressions make, in a table with a set ``s``."""
    where = {"family": family, "table": "t"}
    listed = [
        {"table": {"family": family, "name": "t"}},
        {"chain": {**where, "name": "c"}},
        {"rule": {**where, "chain": "c", "handle": 7, "expr": list(expressions)}},
        {"set": {**where, "name": "s", "type": "any", "elem": list(elements)}},
    ]
    (table,) = parse_ruleset(json.dumps({"nftables": listed}))
    return table.chains[0].rules[0]


CASES = [
    (match(payload("ip", "daddr"), "10.0.0.1", "!="), "ip daddr != 10.0.0.1",
     (V4, AddressIs(side="dst", networks=("10.0.0.1/32",), negate=True))),
    (match(payload("ip", "saddr"), {"prefix": {"addr": "10.0.0.0", "len": 8}}),
     "ip saddr 10.0.0.0/8", (V4, AddressIs(side="src", networks=("10.0.0.0/8",)))),
    (match(payload("tcp", "dport"), {"set": [22, {"range": [80, 90]}]}),
     "tcp dport { 22, 80-90 }", (TCP, PortIs(side="dst", ranges=((22, 22), (80, 90))))),
    (match(payload("tcp", "sport"), 1024, ">="), "tcp sport >= 1024",
     (TCP, PortIs(side="src", ranges=((1024, 65535),)))),
    (match(payload("icmp", "type"), "echo-request"), "icmp type echo-request",
     (ProtocolIs(protocols=("icmp",)), IcmpTypeIs(types=((8, None),)))),
    (match({"meta": {"key": "iifname"}}, {"set": ["lo", "vir*"]}), "iifname { lo, vir* }",
     (InterfaceIs(direction="in", names=("lo", "vir*")),)),
    (match({"ct": {"key": "state"}}, ["established", "related"], "in"),
     "ct state established,related", (ConntrackStateIs(states=("established", "related")),)),
    (match({"ct": {"key": "status"}}, "dnat", "!"), "ct status ! dnat",
     (ConntrackStateIs(states=("dnat",), negate=True),)),
    (match({"&": [MARK, 240]}, 0, "!="), "meta mark & 240 != 0",
     (MarkIs(of="packet", value=0, mask=240, negate=True),)),
    (match({"fib": {"result": "type", "flags": ["daddr", "iif"]}}, "local"),
     "fib daddr . iif type local", (AddressTypeIs(side="dst", types=("local",), limit="in"),)),
    (match({"meta": {"key": "nfproto"}}, "ipv6"), "meta nfproto ipv6",
     (FamilyIs(families=("ip6",)),)),
    (match(payload("ip", "ttl"), 1), "ip ttl 1", (UnknownMatch(text="ip ttl 1"),)),
    (match(payload("th", "dport"), 53), "th dport 53", (UnknownMatch(text="th dport 53"),)),
    ({"xt": {"type": "match", "name": "physdev"}}, "xt match physdev",
     (UnknownMatch(text="xt match physdev"),)),
    ({"xt": {"type": "target", "name": "MASQUERADE"}}, "xt target MASQUERADE",
     (UnknownStatement(text="xt target MASQUERADE"),)),
    ({"reject": None}, "reject", (Reject(reply="icmpx-port-unreachable"),)),
    ({"dnat": {"family": "ip", "addr": "10.0.0.1", "port": 80}},
     "dnat family ip addr 10.0.0.1 port 80", (DestinationNat(first="10.0.0.1", ports=(80, 80)),)),
    ({"mangle": {"key": MARK, "value": {"^": [{"&": [MARK, 0xFF]}, 0x10]}}},
     "meta mark set meta mark & 255 ^ 16", (SetMark(of="packet", value=0x10, mask=0xFFFFFF00),)),
    ({"vmap": {"key": {"ct": {"key": "state"}}, "data": "@m"}}, "ct state vmap @m",
     (UnknownStatement(text="ct state vmap @m"),)),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "text", "expected"), CASES, ids=[c[1] for c in CASES])
def test_expression(expression, text, expected):
    """What an expression means with what nft left implied, and how it is shown."""
    rule = rule_of(expression)
    assert rule.body == expected
    assert rule.text == text
    assert rule.handle == 7


def test_named_set_is_looked_up():
    """The elements of a set stand in for its name, whatever their time-outs."""
    aged = {"elem": {"val": "10.0.0.9", "timeout": 3600}}
    rule = rule_of(match(payload("ip", "saddr"), "@s"), family="ip", elements=["10.0.0.1", aged])
    assert rule.body == (AddressIs(side="src", networks=("10.0.0.1/32", "10.0.0.9/32")),)


def test_set_that_is_not_listed_is_unknown():
    """A reference into nowhere matches nobody knows what."""
    rule = rule_of(match(payload("ip", "saddr"), "@elsewhere"), {"accept": None}, family="ip")
    assert rule.body == (UnknownMatch(text="ip saddr @elsewhere"), Accept())


def test_counter_is_no_statement():
    """Counts are the rule's; a rule of nothing else has no effect."""
    rule = rule_of({"counter": {"packets": 5, "bytes": 420}})
    assert (rule.packets, rule.bytes, rule.body) == (5, 420, (NoEffect(text="no verdict"),))


@pytest.mark.parametrize("text", ["", "[]", "{}", "Error: no", '{"nftables": 5}', "[" * 100_000])
def test_what_is_no_ruleset_is_refused(text):
    """Text that nft would not print is never taken for an empty ruleset."""
    with pytest.raises(ParseError):
        parse_ruleset(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["meta", "payload", "key", "set", "&", "x"]), inner)
    ),
    max_leaves=8,
)
KINDS = st.sampled_from(["match", "dnat", "mangle", "reject", "jump", "xt", "limit", "set", "?"])
OPERANDS = st.fixed_dictionaries({}, optional={"op": JSON, "left": JSON, "right": JSON})


@given(KINDS, JSON | OPERANDS)
def test_any_expression_is_kept(kind, inner):
    """Whatever an expression holds, the rule keeps something of it."""
    rule = rule_of({kind: inner})
    assert rule.body
    assert rule.text
