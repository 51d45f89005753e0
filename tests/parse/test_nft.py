"""What ``nft -j list ruleset`` means."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmdiag.model.matches import (
    AddressIs,
    AddressTypeIs,
    ConntrackStateIs,
    FamilyIs,
    FieldIs,
    IcmpTypeIs,
    InSet,
    InterfaceIs,
    MacIs,
    MarkIs,
    PortIs,
    ProtocolIs,
    ReverseRouteIs,
    UnknownMatch,
)
from kvmdiag.model.netfilter import Flowtable, NamedSet
from kvmdiag.model.statements import (
    Accept,
    CopyMark,
    DestinationNat,
    NoEffect,
    Reject,
    SetMark,
    UnknownStatement,
    ValueMap,
    VerdictMap,
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


def table_of(*expressions, family="inet", elements=()):
    """A table with the rule that these expressions make, and a set ``s``."""
    where = {"family": family, "table": "t"}
    listed = [
        {"table": {"family": family, "name": "t"}},
        {"chain": {**where, "name": "c"}},
        {"rule": {**where, "chain": "c", "handle": 7, "expr": list(expressions)}},
        {"set": {**where, "name": "s", "type": "any", "elem": list(elements)}},
    ]
    (table,) = parse_ruleset(json.dumps({"nftables": listed}))
    return table


def rule_of(*expressions, family="inet"):
    """The rule that these expressions make."""
    return table_of(*expressions, family=family).chains[0].rules[0]


MAC = "52:54:00:00:00:09"
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
     (FieldIs(field="ct status", ranges=((1, 0xFFFF),), mask=0x20, negate=True),)),
    (match({"&": [MARK, 240]}, 0, "!="), "meta mark & 240 != 0",
     (MarkIs(of="packet", value=0, mask=240, negate=True),)),
    (match({"fib": {"result": "type", "flags": ["daddr", "iif"]}}, "local"),
     "fib daddr . iif type local", (AddressTypeIs(side="dst", types=("local",), limit="in"),)),
    (match({"meta": {"key": "nfproto"}}, "ipv6"), "meta nfproto ipv6",
     (FamilyIs(families=("ip6",)),)),
    (match(payload("ip", "ttl"), 1), "ip ttl 1", (FieldIs(field="ip ttl", ranges=((1, 1),)),)),
    (match(payload("ip", "ttl"), 5, "<"), "ip ttl < 5",
     (FieldIs(field="ip ttl", ranges=((0, 4),)),)),
    (match(payload("th", "dport"), 53), "th dport 53",
     (InSet(fields=("th dport",), elements=("53",)),)),
    (match(payload("ether", "type"), 32821), "ether type 32821", (FamilyIs(families=("32821",)),)),
    (match(payload("ether", "saddr"), {"prefix": {"addr": "52:54:00:00:00:00", "len": 24}}),
     "ether saddr 52:54:00:00:00:00/24",
     (MacIs(side="src", macs=("52:54:00:00:00:00/ff:ff:ff:00:00:00",)),)),
    (match({"&": [payload("ether", "daddr"), "01:00:00:00:00:00"]}, "01:00:00:00:00:00", "!="),
     "ether daddr & 01:00:00:00:00:00 != 01:00:00:00:00:00",
     (MacIs(side="dst", macs=("01:00:00:00:00:00/01:00:00:00:00:00",), negate=True),)),
    (match(payload("ether", "saddr"), {"set": [{"range": ["52:54:00:00:00:01", MAC]}]}),
     f"ether saddr {{ 52:54:00:00:00:01-{MAC} }}",
     (InSet(fields=("ether saddr",), elements=(f"52:54:00:00:00:01-{MAC}",)),)),
    (match({"&": [payload("ip", "saddr"), "255.255.0.0"]}, "@s"), "ip saddr & 255.255.0.0 @s",
     (UnknownMatch(text="ip saddr & 255.255.0.0 @s"),)),
    (match(payload("vlan", "id"), 5), "vlan id 5", (UnknownMatch(text="vlan id 5"),)),
    (match({"fib": {"result": "oif", "flags": ["saddr", "mark", "iif"]}}, False),
     "fib saddr . mark . iif oif false", (ReverseRouteIs(mark=True, negate=True),)),
    (match({"ct": {"key": "ip daddr", "dir": "original"}}, "10.0.0.1"), 'ct "ip daddr" 10.0.0.1',
     (InSet(fields=("ct original ip daddr",), elements=("10.0.0.1",)),)),
    (match({"concat": [payload("ip", "saddr"), payload("th", "dport")]}, {"set": [
        {"concat": [{"prefix": {"addr": "10.0.0.0", "len": 8}}, {"range": [80, 90]}]}]}, "!="),
     "ip saddr . th dport != { 10.0.0.0/8 . 80-90 }",
     (InSet(fields=("ip saddr", "th dport"), elements=("10.0.0.0/8 . 80-90",), negate=True),)),
    ({"xt": {"type": "match", "name": "physdev"}}, "xt match physdev",
     (UnknownMatch(text="xt match physdev"),)),
    ({"xt": {"type": "target", "name": "MASQUERADE"}}, "xt target MASQUERADE",
     (UnknownStatement(text="xt target MASQUERADE"),)),
    ({"reject": None}, "reject", (Reject(reply="icmpx-port-unreachable"),)),
    ({"dnat": {"family": "ip", "addr": "10.0.0.1", "port": 80}},
     "dnat family ip addr 10.0.0.1 port 80", (DestinationNat(first="10.0.0.1", ports=(80, 80)),)),
    ({"mangle": {"key": MARK, "value": {"^": [{"&": [MARK, 0xFF]}, 0x10]}}},
     "meta mark set meta mark & 255 ^ 16", (SetMark(of="packet", value=0x10, mask=0xFFFFFF00),)),
    ({"mangle": {"key": MARK, "value": {"&": [{"ct": {"key": "mark"}}, 0xFF]}}},
     "meta mark set ct mark & 255", (CopyMark(to="packet", take=0xFF),)),
    ({"vmap": {"key": {"ct": {"key": "state"}}, "data": "@m"}}, "ct state vmap @m",
     (VerdictMap(fields=("ct state",), name="m"),)),
    ({"vmap": {"key": payload("tcp", "dport"), "data": {"set": [[80, {"accept": None}],
      [{"range": [81, 90]}, {"jump": {"target": "x"}}]]}}},
     "tcp dport vmap { 80 : accept, 81-90 : jump x }",
     (VerdictMap(fields=("tcp dport",), elements=("80 : accept", "81-90 : jump x")),)),
    ({"dnat": {"family": "ip", "addr": {"map": {"key": payload("ip", "daddr"), "data": "@m"}}}},
     "dnat family ip addr ip daddr map @m",
     (ValueMap(action="dnat", fields=("ip daddr",), name="m"),)),
    ({"tproxy": {"port": 80}}, "tproxy port 80", (UnknownStatement(text="tproxy port 80"),)),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "text", "expected"), CASES, ids=[c[1] for c in CASES])
def test_expression(expression, text, expected):
    """What an expression means with what nft left implied, and how it is shown."""
    rule = rule_of(expression)
    assert rule.body == expected
    assert rule.text == text
    assert rule.handle == 7


def test_named_set_is_referred_to():
    """A set is kept once, whatever the time-outs of its elements, and rules name it."""
    aged = {"elem": {"val": "10.0.0.9", "timeout": 3600, "comment": "x"}}
    expression = match(payload("ip", "saddr"), "@s")
    table = table_of(expression, {"accept": None}, elements=["10.0.0.1", aged])
    assert table.sets == (NamedSet(name="s", type="any", elements=("10.0.0.1", "10.0.0.9")),)
    assert table.chains[0].rules[0].body == (InSet(fields=("ip saddr",), name="s"), Accept())


def test_counter_is_no_statement():
    """Counts are the rule's; a rule of nothing else has no effect."""
    rule = rule_of({"counter": {"packets": 5, "bytes": 420}})
    assert (rule.packets, rule.bytes, rule.body) == (5, 420, (NoEffect(text="no verdict"),))


def test_flowtables_are_part_of_their_table():
    """With the links between which flows take the short cut; recorded, as nft prints them."""
    listed = [
        {"table": {"family": "inet", "name": "t", "handle": 1}},
        {"flowtable": {"family": "inet", "name": "f", "table": "t", "handle": 2,
                       "hook": "ingress", "prio": -10, "dev": ["eno1", "vnet0"]}},
        {"flowtable": {"family": "inet", "name": "g", "table": "t", "handle": 3,
                       "hook": "ingress", "prio": 0, "dev": "eno1"}},
    ]  # fmt: skip
    (table,) = parse_ruleset(json.dumps({"nftables": listed}))
    assert table.flowtables == (
        Flowtable(name="f", devices=("eno1", "vnet0"), priority=-10),
        Flowtable(name="g", devices=("eno1",)),
    )


@pytest.mark.parametrize("text", ["", "[]", "{}", "Error: no", '{"nftables": 5}', "[" * 100_000])
def test_what_is_no_ruleset_is_refused(text):
    """Text that nft would not print is never taken for an empty ruleset."""
    with pytest.raises(ParseError):
        parse_ruleset(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["meta", "payload", "key", "set", "map", "concat", "&", "x"]), inner
        )
    ),
    max_leaves=8,
)
KINDS = st.sampled_from(
    ["match", "dnat", "mangle", "reject", "jump", "xt", "limit", "set", "vmap", "?"]
)
OPERANDS = st.fixed_dictionaries({}, optional={"op": JSON, "left": JSON, "right": JSON})


@given(KINDS, JSON | OPERANDS)
def test_any_expression_is_kept(kind, inner):
    """Whatever an expression holds, the rule keeps something of it."""
    rule = rule_of({kind: inner})
    assert rule.body
    assert rule.text
