"""Reading tables from a real namespace: all of them, in full, and leaving no trace."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvmdiag.model.matches import (
    AddressIs,
    ConntrackStateIs,
    FamilyIs,
    InSet,
    InterfaceIs,
    MacIs,
    MarkIs,
    PortIs,
    ProtocolIs,
    UnknownMatch,
)
from kvmdiag.model.statements import Accept, Drop, Masquerade, Reject, SetMark
from kvmdiag.system.namespaces import entered

from .rulesets import LIBVIRT, NATIVE, NET, read

pytestmark = pytest.mark.kernel


def test_empty_namespace_has_no_tables(host):
    """Nothing there is an answer: no tables, no gap, and none spring up."""
    assert read(host) == ({}, ())
    assert host.run("nft list ruleset").stdout == ""
    with entered(host.path):
        assert Path("/proc/thread-self/net/ip_tables_names").read_text() == ""


def test_rules_of_iptables_in_full_with_handles(host):
    """The meaning is iptables' and the handle is the one that nft deletes the rule by."""
    host.run("iptables-nft-restore", input=LIBVIRT)
    tables, gaps = read(host)
    assert gaps == ()
    assert set(tables) == {("iptables-nft", "ip", "nat"), ("iptables-nft", "ip", "filter")}
    table = tables["iptables-nft", "ip", "filter"]
    assert table.chain("FORWARD").policy == "drop"
    related, refused = table.chain("LIBVIRT_FWI").rules
    assert related.body == (
        AddressIs(side="dst", networks=(NET,)),
        InterfaceIs(direction="out", names=("virbr0",)),
        ConntrackStateIs(states=("related", "established")),
        Accept(),
    )
    assert table.chain("DOCKER").rules[0].body == (
        ProtocolIs(protocols=("tcp",)),
        PortIs(side="dst", ranges=((80, 80), (443, 443))),
        Accept(),
    )
    nat = tables["iptables-nft", "ip", "nat"].chain("LIBVIRT_PRT")
    assert nat.rules[1].body[-1] == Masquerade(ports=(1024, 65535))
    host.run(f"nft delete rule ip filter LIBVIRT_FWI handle {refused.handle}")
    after, _ = read(host)
    assert after["iptables-nft", "ip", "filter"].chain("LIBVIRT_FWI").rules == (related,)


def test_reading_changes_nothing(host):
    """Rules and counters are the same after a reading; no chain or table was added."""
    host.run("iptables-nft-restore", input=LIBVIRT)
    host.run("nft -f -", input=NATIVE)
    before = host.run("nft -a list ruleset").stdout
    read(host)
    assert host.run("nft -a list ruleset").stdout == before
    with entered(host.path):
        assert Path("/proc/thread-self/net/ip_tables_names").read_text() == ""


def test_native_and_legacy_tables_side_by_side(host):
    """Every backend's tables are read, of both families."""
    host.run("nft -f -", input=NATIVE)
    host.run("iptables-legacy -A INPUT -i lo -j ACCEPT")
    host.run("ip6tables-nft -A FORWARD -i br0 -j REJECT")
    tables, gaps = read(host)
    assert gaps == ()
    native = tables["nft", "ip", "libvirt_network"].chain("forward")
    assert (native.hook, native.type, native.priority) == ("forward", "filter", 0)
    assert native.rules[0].body == (
        InterfaceIs(direction="in", names=("virbr0",)),
        Reject(reply="icmp-port-unreachable"),
    )
    legacy = tables["iptables-legacy", "ip", "filter"].chain("INPUT")
    assert legacy.rules[0].text == "-A INPUT -i lo -j ACCEPT"
    assert legacy.rules[0].body == (InterfaceIs(direction="in", names=("lo",)), Accept())
    v6 = tables["iptables-nft", "ip6", "filter"].chain("FORWARD")
    assert v6.rules[0].body[-1] == Reject(reply="icmp6-port-unreachable")


EBTABLES = (
    "-t nat -N I-vnet0 -P DROP",
    "-t nat -A PREROUTING -i vnet0 -j I-vnet0",
    "-t nat -A I-vnet0 -s ! 52:54:00:aa:bb:0c -j DROP",
    "-t nat -A I-vnet0 -p IPv4 --ip-src ! 192.168.122.5 -j DROP",
    "-t nat -A I-vnet0 -p IPv4 --ip-proto udp --ip-sport 68 --ip-dport 67 -j ACCEPT",
    "-t nat -A I-vnet0 -p ARP --arp-ip-src 192.168.122.5 -j ACCEPT",
)


def test_rules_of_ebtables_in_full(host):
    """What nft calls xt is explained by ebtables; the policy of a user's chain is a rule."""
    for rule in EBTABLES:
        host.run(f"ebtables-nft {rule}")
    tables, gaps = read(host)
    assert gaps == ()
    chain = tables["nft", "bridge", "nat"].chain("I-vnet0")
    assert [rule.body for rule in chain.rules] == [
        (MacIs(side="src", macs=("52:54:00:aa:bb:0c",), negate=True), Drop()),
        (
            FamilyIs(families=("ip",)),
            AddressIs(side="src", networks=("192.168.122.5/32",), negate=True),
            Drop(),
        ),
        (
            FamilyIs(families=("ip",)),
            ProtocolIs(protocols=("udp",)),
            PortIs(side="src", ranges=((68, 68),)),
            PortIs(side="dst", ranges=((67, 67),)),
            Accept(),
        ),
        (
            FamilyIs(families=("arp",)),
            InSet(fields=("arp saddr ip",), elements=("192.168.122.5/32",)),
            Accept(),
        ),
        (Drop(),),
    ]
    assert all(rule.handle for rule in chain.rules)


def test_ipsets_come_with_the_tables_that_ask_them(host):
    """A set, what a list of sets holds, and nothing of the others."""
    sets = (
        "create pools hash:net\nadd pools 10.0.0.0/8\nadd pools 10.1.0.0/16 nomatch\n"
        "create hosts hash:ip netmask 24\nadd hosts 10.9.9.9\n"
        "create all list:set\nadd all pools\nadd all hosts\ncreate other hash:ip\n"
    )
    host.run("ipset restore", input=sets)
    host.run("iptables-nft -A FORWARD -m set --match-set all src -j DROP")
    tables, gaps = read(host)
    assert gaps == ()
    assert {entry.name: (entry.type, set(entry.elements)) for entry in
            tables["iptables-nft", "ip", "filter"].sets} == {
        "all": ("list:set", {"pools", "hosts"}),
        "pools": ("hash:net", {"10.0.0.0/8", "10.1.0.0/16 nomatch"}),
        "hosts": ("hash:ip", {"10.9.9.0/24"}),
    }  # fmt: skip


IN_NFT_TABLE = (
    "-A FORWARD -p tcp -m multiport --dports 80,443 -m conntrack --ctstate NEW -j ACCEPT",
    "-A FORWARD -m physdev --physdev-is-bridged -j ACCEPT",
    "-A FORWARD -m iprange --src-range 10.0.0.1-10.0.0.5 -m comment --comment hi -j REJECT",
    "-A FORWARD -m mark --mark 0x1/0x3 -j MARK --set-xmark 0x5/0x7",
)


OF_NFT_ONLY = (
    "tcp flags syn tcp option maxseg size set rt mtu",
    "ct state new accept",
    "ip length 5 accept",
)


@pytest.mark.parametrize("native", OF_NFT_ONLY)
def test_rules_iptables_does_not_print_any_more(host, native):
    """One rule of nft, and iptables prints nothing: nft's translation has the meaning."""
    for rule in IN_NFT_TABLE:
        host.run(f"iptables-nft {rule}")
    host.run(["nft", f"add rule ip filter FORWARD {native}"])
    before = host.run("nft -a list ruleset").stdout
    tables, gaps = read(host)
    assert {gap.fact for gap in gaps} <= {"meaning of ip rules"}  # of the second rule
    (table,) = tables.values()
    rules = table.chain("FORWARD").rules
    assert [tuple(dict.fromkeys(rule.body)) for rule in rules[:4]] == [
        (
            ProtocolIs(protocols=("tcp",)),
            PortIs(side="dst", ranges=((80, 80), (443, 443))),
            ConntrackStateIs(states=("new",)),
            Accept(),
        ),
        (UnknownMatch(text="xt match physdev"), Accept()),
        (
            AddressIs(side="src", networks=("10.0.0.1-10.0.0.5",)),
            Reject(reply="icmp-port-unreachable"),
        ),
        (MarkIs(of="packet", value=1, mask=3), SetMark(of="packet", value=5, mask=7)),
    ]
    assert all(rule.handle for rule in rules)
    assert host.run("nft -a list ruleset").stdout == before
