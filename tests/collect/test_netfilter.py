"""Reading tables from a real namespace: all of them, in full, and leaving no trace."""

import os
import subprocess
import uuid
from pathlib import Path

import pytest

from kvmdiag.collect import netfilter, nf_programs
from kvmdiag.model.netfilter import (
    Accept,
    AddressIs,
    ConntrackStateIs,
    Drop,
    FamilyIs,
    InSet,
    InterfaceIs,
    MacIs,
    MarkIs,
    Masquerade,
    PortIs,
    ProtocolIs,
    Reject,
    SetMark,
    UnknownMatch,
)
from kvmdiag.system.namespaces import entered
from kvmdiag.system.programs import ProgramMissing, run

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

NET = "192.168.122.0/24"
LIBVIRT = f"""\
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:LIBVIRT_PRT - [0:0]
-A POSTROUTING -j LIBVIRT_PRT
-A LIBVIRT_PRT -s {NET} -d 224.0.0.0/24 -j RETURN
-A LIBVIRT_PRT -s {NET} ! -d {NET} -p tcp -j MASQUERADE --to-ports 1024-65535
-A LIBVIRT_PRT -s {NET} ! -d {NET} -j MASQUERADE
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:LIBVIRT_FWI - [0:0]
:DOCKER - [0:0]
-A FORWARD -j LIBVIRT_FWI
-A FORWARD -j DOCKER
-A LIBVIRT_FWI -d {NET} -o virbr0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A LIBVIRT_FWI -o virbr0 -j REJECT --reject-with icmp-port-unreachable
-A DOCKER -p tcp -m multiport --dports 80,443 -j ACCEPT
COMMIT
"""
NATIVE = """
table ip libvirt_network {
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname "virbr0" counter reject
  }
}
"""


@pytest.fixture
def namespace():
    """The path of an empty namespace of one's own."""
    name = f"kvmdiag-nf-{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    yield f"/run/netns/{name}"
    subprocess.run(["ip", "netns", "del", name], check=True)


def load(namespace, *argv, text=None):
    """Run a program in the namespace; it must succeed."""
    with entered(namespace):
        done = run(argv, input=text)
    assert done.returncode == 0, done.stderr
    return done.stdout


def read(namespace):
    """The tables by family and name, and the gaps."""
    with entered(namespace):
        tables, gaps = netfilter.read_tables("host")
    assert tables is not None, gaps
    by_name = {(t.backend, t.family, t.name): t for t in tables}
    assert len(by_name) == len(tables)
    return by_name, gaps


def test_empty_namespace_has_no_tables(namespace):
    """Nothing there is an answer: no tables, no gap, and none spring up."""
    assert read(namespace) == ({}, ())
    assert load(namespace, "nft", "list", "ruleset") == ""
    with entered(namespace):
        assert Path("/proc/thread-self/net/ip_tables_names").read_text() == ""


def test_rules_of_iptables_in_full_with_handles(namespace):
    """The meaning is iptables' and the handle is the one that nft deletes the rule by."""
    load(namespace, "iptables-nft-restore", text=LIBVIRT)
    tables, gaps = read(namespace)
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
    where = ("ip", "filter", "LIBVIRT_FWI", "handle", str(refused.handle))
    load(namespace, "nft", "delete", "rule", *where)
    after, _ = read(namespace)
    assert after["iptables-nft", "ip", "filter"].chain("LIBVIRT_FWI").rules == (related,)


def test_reading_changes_nothing(namespace):
    """Rules and counters are the same after a reading; no chain or table was added."""
    load(namespace, "iptables-nft-restore", text=LIBVIRT)
    load(namespace, "nft", "-f", "-", text=NATIVE)
    before = load(namespace, "nft", "-a", "list", "ruleset")
    read(namespace)
    assert load(namespace, "nft", "-a", "list", "ruleset") == before
    with entered(namespace):
        assert Path("/proc/thread-self/net/ip_tables_names").read_text() == ""


def test_native_and_legacy_tables_side_by_side(namespace):
    """Every backend's tables are read, of both families."""
    load(namespace, "nft", "-f", "-", text=NATIVE)
    load(namespace, "iptables-legacy", "-A", "INPUT", "-i", "lo", "-j", "ACCEPT")
    load(namespace, "ip6tables-nft", "-A", "FORWARD", "-i", "br0", "-j", "REJECT")
    tables, gaps = read(namespace)
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


def without(monkeypatch, *missing):
    """Make these programs missing."""

    def runner(argv, **options):
        if argv[0] in missing:
            raise ProgramMissing(argv[0])
        return run(argv, **options)

    monkeypatch.setattr(nf_programs, "run", runner)


def test_missing_nft_is_not_an_empty_ruleset(namespace, monkeypatch):
    """Rules are there and cannot be read: not known, and what to install."""
    load(namespace, "iptables-nft-restore", text=LIBVIRT)
    load(namespace, "nft", "-f", "-", text=NATIVE)
    without(monkeypatch, "nft")
    with entered(namespace):
        tables, (gap,) = netfilter.read_tables("host")
    assert tables is None
    assert (gap.stack, gap.fact, gap.help) == ("host", "tables", "install nftables")


def test_missing_nft_does_not_matter_without_rules(namespace, monkeypatch):
    """The kernel itself says that there are no tables."""
    without(monkeypatch, "nft", "iptables-nft-save")
    assert read(namespace) == ({}, ())


IN_NFT_TABLE = (
    "-A FORWARD -p tcp -m multiport --dports 80,443 -m conntrack --ctstate NEW -j ACCEPT",
    "-A FORWARD -m physdev --physdev-is-bridged -j ACCEPT",
    "-A FORWARD -m iprange --src-range 10.0.0.1-10.0.0.5 -m comment --comment hi -j REJECT",
    "-A FORWARD -m mark --mark 0x1/0x3 -j MARK --set-xmark 0x5/0x7",
)


def test_missing_iptables_leaves_unknown_matches(namespace, monkeypatch):
    """What nft cannot translate either is unknown in the rules, and a gap says why."""
    load(namespace, "iptables-nft-restore", text=LIBVIRT)
    load(namespace, "iptables-nft", *IN_NFT_TABLE[1].split())
    without(monkeypatch, "iptables-nft-save")
    tables, (gap,) = read(namespace)
    assert gap.help == "install iptables"
    table = tables["nft", "ip", "filter"]
    assert table.chain("FORWARD").rules[-1].body[0] == UnknownMatch(text="xt match physdev")
    assert ConntrackStateIs(states=("established", "related")) in (
        table.chain("LIBVIRT_FWI").rules[0].body
    )


EBTABLES = (
    "-t nat -N I-vnet0 -P DROP",
    "-t nat -A PREROUTING -i vnet0 -j I-vnet0",
    "-t nat -A I-vnet0 -s ! 52:54:00:aa:bb:0c -j DROP",
    "-t nat -A I-vnet0 -p IPv4 --ip-src ! 192.168.122.5 -j DROP",
    "-t nat -A I-vnet0 -p IPv4 --ip-proto udp --ip-sport 68 --ip-dport 67 -j ACCEPT",
    "-t nat -A I-vnet0 -p ARP --arp-ip-src 192.168.122.5 -j ACCEPT",
)


def test_rules_of_ebtables_in_full(namespace):
    """What nft calls xt is explained by ebtables; the policy of a user's chain is a rule."""
    for rule in EBTABLES:
        load(namespace, "ebtables-nft", *rule.split())
    tables, gaps = read(namespace)
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


def asking(name):
    """The arguments of a rule that asks an ipset."""
    return ("-A", "FORWARD", "-m", "set", "--match-set", name, "src", "-j", "DROP")


def test_ipsets_come_with_the_tables_that_ask_them(namespace):
    """A set, what a list of sets holds, and nothing of the others."""
    sets = (
        "create pools hash:net\nadd pools 10.0.0.0/8\nadd pools 10.1.0.0/16 nomatch\n"
        "create hosts hash:ip netmask 24\nadd hosts 10.9.9.9\n"
        "create all list:set\nadd all pools\nadd all hosts\ncreate other hash:ip\n"
    )
    load(namespace, "ipset", "restore", text=sets)
    load(
        namespace,
        "iptables-nft",
        *["-A", "FORWARD", "-m", "set", "--match-set", "all", "src", "-j", "DROP"],
    )
    tables, gaps = read(namespace)
    assert gaps == ()
    assert {entry.name: (entry.type, set(entry.elements)) for entry in
            tables["iptables-nft", "ip", "filter"].sets} == {
        "all": ("list:set", {"pools", "hosts"}),
        "pools": ("hash:net", {"10.0.0.0/8", "10.1.0.0/16 nomatch"}),
        "hosts": ("hash:ip", {"10.9.9.0/24"}),
    }  # fmt: skip


def test_ipsets_without_ipset_are_a_gap(namespace, monkeypatch):
    """Rules that ask a set stay, and it is said that what they ask could not be read."""
    load(namespace, "ipset", "create", "pools", "hash:net")
    load(
        namespace,
        "iptables-nft",
        *["-A", "FORWARD", "-m", "set", "--match-set", "pools", "src", "-j", "DROP"],
    )

    def without(argv, **options):
        if argv[0] == "ipset":
            raise ProgramMissing(argv[0])
        return run(argv, **options)

    monkeypatch.setattr(nf_programs, "run", without)
    tables, (gap,) = read(namespace)
    assert (gap.fact, gap.help) == ("ipsets", "install ipset")
    assert tables["iptables-nft", "ip", "filter"].chain("FORWARD").rules


OF_NFT_ONLY = (
    "tcp flags syn tcp option maxseg size set rt mtu",
    "ct state new accept",
    "ip length 5 accept",
)


@pytest.mark.parametrize("native", OF_NFT_ONLY)
def test_rules_iptables_does_not_print_any_more(namespace, native):
    """One rule of nft, and iptables prints nothing: nft's translation has the meaning."""
    for rule in IN_NFT_TABLE:
        load(namespace, "iptables-nft", *rule.split())
    load(namespace, "nft", f"add rule ip filter FORWARD {native}")
    before = load(namespace, "nft", "-a", "list", "ruleset")
    tables, gaps = read(namespace)
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
    assert load(namespace, "nft", "-a", "list", "ruleset") == before
