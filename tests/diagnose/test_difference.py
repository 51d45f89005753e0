"""What is a change between two snapshots, what is none, and how it is said."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from kvmdiag.diagnose.difference import changes
from kvmdiag.diagnose.difference_lists import IDENTITIES, Edit, Move, edits
from kvmdiag.model.fields import fields, structs
from kvmdiag.model.link import Bridge, Link
from kvmdiag.model.netfilter import Chain, Table
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Address, FdbEntry, Neighbour, NextHop, Route, Stack
from kvmdiag.parse.iptables import parse_save

RULES = """*filter
:FORWARD ACCEPT [0:0]
[7:900] -A FORWARD -i virbr0 -j ACCEPT
[0:0] -A FORWARD -o virbr0 -j ACCEPT
[3:120] -A FORWARD -j DROP
COMMIT
"""
HOST = Stack(
    name="host",
    kind="host",
    netns="/proc/self/ns/net",
    links=(
        Link(index=2, name="virbr0", kind="bridge", bridge=Bridge()),
        Link(index=3, name="vnet0", kind="tun", master="virbr0"),
    ),
    addresses=(Address(link="virbr0", address="192.168.122.1", prefix_length=24),),
    routes=(Route(destination="0.0.0.0/0", next_hops=(NextHop(gateway="10.0.0.1", link="eno1"),)),),
    neighbours=(Neighbour(link="virbr0", address="192.168.122.2", mac="52:54:00:00:00:02"),),
    fdb=(FdbEntry(bridge="virbr0", port="vnet0", mac="52:54:00:00:00:02"),),
    sysctls={"net.ipv4.ip_forward": "1", "net.ipv4.conf.vnet0.rp_filter": "0"},
    tables=parse_save(RULES, family="ip", backend="iptables-nft"),
)


def _snapshot(*stacks: Stack) -> Snapshot:
    return Snapshot(tool="t", taken_at="now", kernel="6.1", stacks=stacks or (HOST,))


def _said(**changed: object) -> list[str]:
    return [c.text for c in changes(_snapshot(), _snapshot(replace(HOST, **changed)))]


def _with_rules(text: str) -> list[str]:
    return _said(tables=parse_save(text, family="ip", backend="iptables-nft"))


def test_nothing_changed():
    """The same facts at another time, read by another kvmdiag."""
    later = replace(_snapshot(), taken_at="later", tool="u")
    assert changes(_snapshot(), later) == ()


def test_counters_are_no_change():
    """Packets that pass, and handles that iptables-restore gives anew."""
    assert _with_rules(RULES.replace("[7:900]", "[8:1000]").replace("[0:0]", "[1:1]")) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"neighbours": ()},
        {"neighbours": (replace(HOST.neighbours[0], state="failed", mac=None),)},
        {"fdb": ()},
    ],
)
def test_what_the_kernel_learns_and_forgets_is_no_change(changed):
    """Entries that nobody set by hand."""
    assert _said(**changed) == []


def test_another_address_behind_a_neighbour_is_a_change():
    """Two machines may have the same IP address."""
    other = replace(HOST.neighbours[0], mac="52:54:00:00:00:03")
    assert _said(neighbours=(other,)) == [
        "192.168.122.2 on virbr0: mac 52:54:00:00:00:02 → 52:54:00:00:00:03"
    ]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"routes": ()}, "route default via 10.0.0.1 dev eno1 is gone"),
        ({"routes": None}, "routes could be read, and no longer can"),
        (
            {"sysctls": {**HOST.sysctls, "net.ipv4.ip_forward": "0"}},
            "net.ipv4.ip_forward: 1 → 0",
        ),
        ({"links": (HOST.links[0],)}, "link vnet0 is gone"),
        ({"links": (HOST.links[0], replace(HOST.links[1], up=False))}, "vnet0 was set down"),
        (
            {"links": (HOST.links[0], replace(HOST.links[1], master=None))},
            "vnet0 was taken out of virbr0",
        ),
        (
            {"links": (replace(HOST.links[0], index=9), HOST.links[1])},
            "virbr0 was made anew: its number was 2 and is 9",
        ),
        (
            {"links": (replace(HOST.links[0], bridge=Bridge(stp=True)), HOST.links[1])},
            "virbr0: stp no → yes",
        ),
        ({"addresses": ()}, "address 192.168.122.1/24 on virbr0 is gone"),
        ({"tables": ()}, "table ip filter (iptables-nft) is gone"),
    ],
)
def test_changes_are_said_in_words(changed, said):
    """One sentence for one change."""
    assert _said(**changed) == [said]


def test_what_goes_with_a_link_is_not_told_apart():
    """Its sysctls and FDB entries are gone with it."""
    sysctls = {"net.ipv4.ip_forward": "1"}
    assert _said(links=(HOST.links[0],), sysctls=sysctls, fdb=()) == ["link vnet0 is gone"]


def test_a_rule_that_moved_is_not_gone_and_new():
    """Order decides which rule a packet meets first."""
    lines = RULES.splitlines()
    lines[2], lines[3], lines[4] = lines[4], lines[2], lines[3]
    assert _with_rules("\n".join(lines)) == [
        "FORWARD of ip filter (iptables-nft): rule 3 is rule 1 now: -A FORWARD -j DROP"
    ]


def test_a_rule_more_shifts_no_other():
    """A rule put in front is one change."""
    new = "-A FORWARD -i vnet9 -j DROP"
    assert _with_rules(RULES.replace("[7:900]", f"{new}\n[7:900]")) == [
        f"FORWARD of ip filter (iptables-nft): rule 1 is new: {new}"
    ]


def test_a_policy_is_told():
    """It decides what no rule decided."""
    assert _with_rules(RULES.replace("FORWARD ACCEPT", "FORWARD DROP")) == [
        "FORWARD of ip filter (iptables-nft): policy accept → drop"
    ]


def test_the_order_of_addresses_is_told():
    """The first one is what the link speaks with."""
    two = tuple(Address(link="eno1", address=f"10.0.0.{n}", prefix_length=24) for n in (5, 6))
    before, after = replace(HOST, addresses=two), replace(HOST, addresses=two[::-1])
    (change,) = changes(_snapshot(before), _snapshot(after))
    assert (change.kind, change.text) == ("moved", "addresses of eno1 in another order")


def test_stacks_that_come_and_go():
    """One change each, and nothing of what is in them."""
    guest = replace(HOST, name="node1", kind="namespace")
    one, two = _snapshot(HOST), _snapshot(HOST, guest)
    assert [(c.stack, c.kind) for c in changes(one, two)] == [("node1", "new")]
    assert [c.text for c in changes(two, one)] == ["namespace node1 is gone"]


_lists = st.lists(st.sampled_from("abcdef"), max_size=12)


@given(_lists, _lists)
def test_edits_turn_one_list_into_the_other(old, new):
    """Without the gone and with the new ones in place; moves name a place in each."""
    left = list(old)
    for edit in edits(old, new):
        if isinstance(edit, Move):
            assert old[edit.old] == new[edit.new] == edit.text
        elif edit.old is not None:
            left.remove(edit.text)
        else:
            left.append(edit.text)
    assert sorted(left) == sorted(new)


def test_a_long_chain_takes_no_time():
    """Fifty thousand rules of which some are other ones."""
    old = [f"rule {n}" for n in range(50_000)]
    new = [*old[:100], "new", *old[101:]]
    random.Random(1).shuffle(old[40_000:])
    assert Edit("new", None, 100) in edits(old, new)


def test_identities_name_fields_that_are_there():
    """Else two elements would never be paired."""
    known = {struct.__name__: {f.name for f in fields(struct)} for struct in structs(Snapshot)}
    for name, parts in IDENTITIES.items():
        assert set(parts) <= known.get(name, set(parts))
    assert Table.__name__ in known
    assert Chain.__name__ in known
