"""How a packet goes through chains: jumps, gotos, policies, and what cannot be told."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from msgspec.structs import replace

from kvmdiag.model.matches import InSet, UnknownMatch
from kvmdiag.model.netfilter import Chain, NamedSet, Table
from kvmdiag.model.packet import Packet
from kvmdiag.model.stack import Stack
from kvmdiag.model.statements import AddToSet, Drop, TakeFromSet, VerdictMap
from kvmdiag.parse.iptables import parse_rule, parse_save
from kvmdiag.simulate.facts.chains import base_chains
from kvmdiag.simulate.facts.stack_view import StackView
from kvmdiag.simulate.rules.context import Context, Seen
from kvmdiag.simulate.rules.ruleset import run_base_chain

SYN = Packet(
    src=ip_address("10.1.0.2"),
    dst=ip_address("10.2.0.2"),
    proto="tcp",
    sport=4000,
    dport=80,
    tcp_flags=frozenset({"syn"}),
)


def seen_in(tables, packet=SYN):
    """The packet in FORWARD, from i0 to o0."""
    stack = Stack(name="host", kind="host", netns=None, tables=tables, links=(), routes=(),
                  policy_rules=())  # fmt: skip
    at = Context(view=StackView(stack), hook="forward", family="ip", packet=packet,
                 in_link="i0", out_link="o0")  # fmt: skip
    return Seen(at, packet, None)


def verdict(*rules, policy="ACCEPT"):
    """What FORWARD says of the packet; rules as ``-A CHAIN ...``, chains as ``:CHAIN``."""
    chains = [f":{rule.split()[1]} - [0:0]" for rule in rules]
    chains = [line for line in dict.fromkeys(chains) if "FORWARD" not in line]
    text = "\n".join(["*filter", f":FORWARD {policy} [0:0]", *chains, *rules, "COMMIT"])
    (table,) = parse_save(text, family="ip", backend="iptables-nft")
    return of_table(table)[0]


def of_table(table):
    """The verdict, and the packet as the rules leave it."""
    seen = seen_in((table,))
    (base,) = base_chains((table,), "ip", "forward")
    return run_base_chain(base, seen), seen


LIMIT = "-m limit --limit 5/min"

VERDICTS = [
    (["-A FORWARD -j DROP"], "drop", "-A FORWARD -j DROP"),
    (["-A FORWARD -p udp -j DROP"], "accept", "policy ACCEPT"),
    (["-A FORWARD -j X", "-A X -j RETURN", "-A X -j DROP"], "accept", "policy ACCEPT"),
    (["-A FORWARD -j X", "-A FORWARD -j DROP", "-A X -p udp -j ACCEPT"], "drop",
     "-A FORWARD -j DROP"),
    # At the end of a chain that was gone to, the way goes on where the last jump came from.
    (["-A FORWARD -g X", "-A FORWARD -j DROP", "-A X -p udp -j DROP"], "accept", "policy ACCEPT"),
    (["-A FORWARD -j Y", "-A FORWARD -j DROP", "-A Y -g X", "-A Y -j ACCEPT", "-A X -p udp"],
     "drop", "-A FORWARD -j DROP"),
    # Both ways end alike, so what cannot be told does not matter.
    ([f"-A FORWARD {LIMIT} -j LOG", "-A FORWARD -j DROP"], "drop", "-A FORWARD -j DROP"),
    ([f"-A FORWARD {LIMIT} -j ACCEPT", "-A FORWARD -j ACCEPT"], "accept", "-A FORWARD -j ACCEPT"),
    ([f"-A FORWARD {LIMIT} -j X", "-A X -p udp -j ACCEPT", "-A FORWARD -j DROP"], "drop",
     "-A FORWARD -j DROP"),
    # Also when one of them leaves the chain in which they part, as ufw's limits do.
    (["-A FORWARD -j X", f"-A X {LIMIT} -j ACCEPT", "-A X -j Y", "-A FORWARD -j ACCEPT",
      "-A Y -j RETURN"], "accept", "-A FORWARD -j ACCEPT"),
    (["-A FORWARD -p udp -m string --string x --algo bm -j DROP"], "accept", "policy ACCEPT"),
    (["-A FORWARD -j MISSING"], "unknown", "-A FORWARD -j MISSING"),
    (["-A FORWARD -j NFQUEUE --queue-num 0"], "unknown", "-A FORWARD -j NFQUEUE --queue-num 0"),
    (["-A FORWARD -p udp -j NFQUEUE"], "accept", "policy ACCEPT"),
]  # fmt: skip


@pytest.mark.parametrize(("rules", "kind", "decider"), VERDICTS, ids=[" ".join(v[0])
                         for v in VERDICTS])  # fmt: skip
def test_verdict(rules, kind, decider):
    """What becomes of the packet, and which rule or policy decided it."""
    found = verdict(*rules)
    assert (found.kind, found.rule.text) == (kind, decider)


UNKNOWN = [
    ([f"-A FORWARD {LIMIT} -j ACCEPT", "-A FORWARD -j DROP"], LIMIT),
    (["-A FORWARD -j X", "-A FORWARD -j DROP", "-A X -m statistic --mode nth --every 2 -j ACCEPT"],
     "-m statistic --mode nth --every 2"),
    (["-A FORWARD -m time --timestart 08:00 -j MARK --set-mark 1"],
     "-m time --timestart 08:00"),
    (["-A FORWARD -m set --match-set gone src -j DROP"],
     "-A FORWARD -m set --match-set gone src -j DROP"),
    (["-A FORWARD -j TPROXY --on-port 80"], "-j TPROXY --on-port 80"),
    (["-A FORWARD -j X", "-A X -j FORWARD"], "chain X leads in a circle"),
]  # fmt: skip


@pytest.mark.parametrize(("rules", "why"), UNKNOWN, ids=[" ".join(u[0]) for u in UNKNOWN])
def test_what_decides_is_named(rules, why):
    """An unknown verdict tells what would have to be known."""
    found = verdict(*rules)
    assert (found.kind, found.why) == ("unknown", why)


def test_many_that_cannot_be_told_are_cut_short():
    """Rules that could each be true or false do not take for ever."""
    rules = [f"-A FORWARD {LIMIT} -j MARK --set-xmark {2**n}/{2**n}" for n in range(30)]
    found = verdict(*rules)
    assert found.kind == "unknown"
    assert "too many" in found.why or found.why == LIMIT


def test_a_hundred_that_do_not_matter():
    """Many rules that cannot be told, and all ways end alike."""
    found = verdict(*[f"-A FORWARD {LIMIT} -j DROP"] * 100, "-A FORWARD -j DROP")
    assert found.kind == "drop"


def test_unknown_that_does_not_matter_leaves_marks():
    """The packet goes on with the marks that both ways give it."""
    rules = (f"-A FORWARD {LIMIT} -j ACCEPT", "-A FORWARD -j ACCEPT")
    text = "\n".join(["*filter", ":FORWARD ACCEPT", "-A FORWARD -j MARK --set-mark 5", *rules,
                      "COMMIT"])  # fmt: skip
    (table,) = parse_save(text, family="ip", backend="iptables-nft")
    found, seen = of_table(table)
    assert (found.kind, seen.mark) == ("accept", 5)


def chain_of(*bodies, sets=(), more=()):
    """A table of nft with these rules in a base chain, and further chains."""
    rules = tuple(parse_rule("-j ACCEPT").__class__(body=body, text=f"rule {n}")
                  for n, body in enumerate(bodies))  # fmt: skip
    base = Chain(name="c", hook="forward", type="filter", rules=rules)
    return Table(family="inet", name="t", backend="nft", chains=(base, *more), sets=sets)


@pytest.mark.parametrize(
    ("elements", "kind"),
    [
        (("0 : drop", "1 : drop"), "drop"),
        (("0-1 : drop",), "drop"),
        (("1 : drop",), "unknown"),  # of 0 it says nothing
        (("0 : accept", "1 : accept"), "accept"),
        (("0 : accept", "1 : drop"), "unknown"),
    ],
)
def test_random_choice(elements, kind):
    """A map of a random number may say any of the things it holds."""
    body = (VerdictMap(fields=("numgen mode random mod 2 offset 0",), elements=elements),)
    found, _ = of_table(chain_of(body))
    assert found.kind == kind


def test_verdict_map_by_name():
    """A map is looked up by all its fields; without an element the rule has no effect."""
    services = NamedSet(
        name="m",
        type="ipv4_addr . inet_service : verdict",
        elements=("10.2.0.0/24 . 80-90 : drop", "10.2.0.2 . 443 : accept"),
    )
    body = (VerdictMap(fields=("ip daddr", "tcp dport"), name="m"),)
    table = chain_of(body, sets=(services,))
    assert of_table(table)[0].kind == "drop"
    (base,) = base_chains((table,), "ip", "forward")
    other = SYN.__class__(**{f: getattr(SYN, f) for f in SYN.__struct_fields__ if f != "dport"},
                          dport=91)  # fmt: skip
    assert run_base_chain(base, seen_in((table,), other)).kind == "accept"


def test_map_that_is_not_understood_is_unknown():
    """Nothing is taken for granted of a map with elements of a kind we do not know."""
    body = (VerdictMap(fields=("ip daddr",), elements=("10.0.0.1 : tickle",)),)
    assert of_table(chain_of(body))[0].kind == "unknown"


def test_long_chain_is_gone_through_as_a_short_one():
    """The index of a long chain leaves out only what cannot match, and keeps the order."""
    filler = [f"-A FORWARD -d 10.3.{n // 256}.{n % 256} -j DROP" for n in range(600)]
    filler += [f"-A FORWARD -i eth{n} -j DROP" for n in range(50)]
    filler += ["-A FORWARD -s 10.9.0.0/16,10.8.0.0/16 -j DROP", "-A FORWARD ! -i i0 -j DROP"]
    for rule in (
        "-A FORWARD -d 10.2.0.2 -j REJECT",
        "-A FORWARD -d 10.2.0.0/24 -j REJECT",
        "-A FORWARD -s 10.0.0.0/8 -j REJECT",
        "-A FORWARD -i i0 -j REJECT",
        "-A FORWARD -o o+ -j REJECT",
        "-A FORWARD -p tcp --dport 80 -j REJECT",
        "-A FORWARD -p tcp -m multiport --dports 22,80 -j REJECT",
        "-A FORWARD ! -s 10.3.0.0/16 -j REJECT",
    ):
        assert verdict(*filler[:300], rule, *filler[300:]).kind == "reject", rule
        late = verdict(*filler, rule, "-A FORWARD -d 10.2.0.2 -j DROP")
        assert (late.kind, late.rule.index) == ("reject", len(filler)), rule
    assert verdict(*filler).kind == "accept"


def test_unknown_rule_in_a_long_chain_is_seen():
    """A rule that cannot be understood is looked at for every packet."""
    filler = [f"-A FORWARD -d 10.3.0.{n} -j DROP" for n in range(100)]
    found = verdict(*filler, f"-A FORWARD {LIMIT} -j DROP")
    assert (found.kind, found.why) == ("unknown", LIMIT)
    assert isinstance(parse_rule(LIMIT).body[0], UnknownMatch)


@pytest.mark.parametrize("takes", [True, False])
def test_a_set_that_a_rule_takes_from(takes):
    """What the snapshot's set has may be out of it by the time of the next rule."""
    known = NamedSet(name="s", type="ipv4_addr", elements=("10.0.0.0/8",))
    body = (InSet(fields=("ip saddr",), name="s"), Drop())
    bodies = ((TakeFromSet(name="s"),), body) if takes else (body,)
    found, _ = of_table(chain_of(*bodies, sets=(known,)))
    assert found.kind == ("unknown" if takes else "drop")


@pytest.mark.parametrize("adds", [True, False])
def test_a_set_that_a_rule_adds_to(adds):
    """What the snapshot's set does not have may be in it by the time of the next rule."""
    known = NamedSet(name="s", type="ipv4_addr", elements=("10.9.9.9",))
    body = (InSet(fields=("ip saddr",), name="s"), Drop())
    bodies = ((AddToSet(name="s"),), body) if adds else (body,)
    found, _ = of_table(chain_of(*bodies, sets=(known,)))
    assert found.kind == ("unknown" if adds else "accept")
    elsewhere = chain_of((AddToSet(name="s", ipset=True),), body, sets=(known,))
    assert of_table(elsewhere)[0].kind == "accept"


def test_an_ipset_that_a_rule_adds_to():
    """The same for iptables, at whatever hook the packet comes by it."""
    text = (
        "*filter\n:FORWARD ACCEPT\n-A FORWARD -j SET --add-set s src\n"
        "-A FORWARD -m set --match-set s src -j DROP\nCOMMIT\n"
    )
    (table,) = parse_save(text, family="ip", backend="iptables-nft")
    empty = NamedSet(name="s", type="hash:ip")
    assert of_table(replace(table, sets=(empty,)))[0].kind == "unknown"
