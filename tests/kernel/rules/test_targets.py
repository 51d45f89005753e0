"""What targets do, with the kernel as judge: marks, zones, and addresses on the far side."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from msgspec.structs import replace as with_fields

from kvmdiag.model.packet import KERNEL_CHOOSES

from .predicted import translated, walked
from .sent import answer, error, icmp, tcp, udp

pytestmark = pytest.mark.kernel

MARKS = """\
*raw
-A PREROUTING -p udp --dport 53 -j CT --zone 7
-A PREROUTING -p udp --dport 54 -j CT --notrack
COMMIT
*mangle
-A PREROUTING -j CONNMARK --restore-mark --nfmask 0xff00 --ctmask 0xff00
-A PREROUTING -m mark --mark 0x1200/0xff00 -m comment --comment restored
-A PREROUTING -p udp -j MARK --set-xmark 0x1234/0xffff
-A PREROUTING -p udp --dport 53 -j MARK --and-mark 0xf0
-A PREROUTING -p udp --dport 54 -j MARK --or-mark 0x1
-A PREROUTING -p udp --dport 55 -j MARK --xor-mark 0xf000000f
-A PREROUTING -m mark --mark 0x1234
-A PREROUTING -m mark --mark 0x30
-A PREROUTING -m mark --mark 0x1235
-A PREROUTING -m mark --mark 0xf000123b
-A PREROUTING -j CONNMARK --save-mark --nfmask 0xff00 --ctmask 0xff00
-A FORWARD -m connmark --mark 0x1200
-A FORWARD -m connmark --mark 0x0
-A FORWARD -m conntrack --ctstate UNTRACKED
-A FORWARD -m conntrack --ctstate NEW -m comment --comment new
COMMIT
"""
NFT_MARKS = (
    "ct mark set meta mark | 0x100",
    "ct mark 0x107 counter",
    "meta mark set ct mark & 0x101",
    "meta mark 0x101 counter",
    "meta mark set meta mark ^ 0xf0 | 0x2",
    "meta mark 0x1f3 counter",
    "ct zone 0 counter",
    "meta mark set 0x7 ip saddr 10.9.9.9 counter drop",
    "meta mark 0x7 counter",
)


def test_marks_and_zones(bench):
    """CONNMARK keeps marks for the answers; each way to set a mark; zones and notrack."""
    bench.clear()
    bench.load("iptables-nft-restore", text=MARKS)
    view = bench.view()
    for sent in (udp(53), udp(54), udp(55), udp(7000), icmp(), answer(udp(7000))):
        kernel = bench.kernel(sent)
        assert walked(bench, view, sent) == kernel, sent.packet.describe()
    assert any("restored" in rule for rule in kernel)


def test_marks_of_nft(bench):
    """Arithmetic, copies, and that a mark set before a match that fails stays set."""
    bench.clear()
    bench.load("nft", "add table ip m")
    bench.load("nft", "add chain ip m c { type filter hook forward priority 0 ; }")
    bench.load("nft", "add rule ip m c meta mark set 0x7")
    for rule in NFT_MARKS:
        bench.load("nft", f"add rule ip m c {rule}")
    view, sent = bench.view(), udp()
    kernel = bench.kernel(sent)
    shown = {rule for rule in walked(bench, view, sent) if "counter" in _counted(view, rule)}
    assert shown == kernel
    assert len(kernel) == 5


LIFE = """\
*mangle
-A PREROUTING -j {target} --{unit}-set 6
-A FORWARD -m {match} --{unit}-eq 5
-A FORWARD -j {target} --{unit}-dec 3
-A FORWARD -m {match} --{unit}-eq 2
-A FORWARD -m {match} --{unit}-gt 2
-A POSTROUTING -j {target} --{unit}-inc 254
-A POSTROUTING -m {match} --{unit}-eq 255
COMMIT
"""
NFT_LIFE = """
table inet m {{
  chain c {{
    type filter hook forward priority 0;
    {field} set 5 counter
    {other} set 7 counter
    {field} 5 counter
    {field} > 5 counter
  }}
}}
"""


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("iptables", {"target": "TTL", "match": "ttl", "unit": "ttl"}),
        ("ip6tables", {"target": "HL", "match": "hl", "unit": "hl"}),
    ],
)
def test_time_to_live(bench, program, words):
    """It is set, grows and shrinks between nothing and all; matches see what became of it."""
    bench.clear()
    bench.load(f"{program}-nft-restore", text=LIFE.format(**words))
    sent = udp() if program == "iptables" else udp(src="fd00:1::2", dst="fd00:2::2")
    kernel = bench.kernel(sent)
    assert walked(bench, bench.view(), sent) == kernel
    assert len(kernel) == 6


@pytest.mark.parametrize("version", [4, 6])
def test_time_to_live_by_nft(bench, version):
    """A packet of the other family does not come past the statement."""
    bench.clear()
    fields = "ip ttl", "ip6 hoplimit"
    field, other = fields if version == 4 else fields[::-1]
    bench.load("nft", "-f", "-", text=NFT_LIFE.format(field=field, other=other))
    sent = udp() if version == 4 else udp(src="fd00:1::2", dst="fd00:2::2")
    kernel = bench.kernel(sent)
    assert walked(bench, bench.view(), sent) == kernel
    assert len(kernel) == 2


def _counted(view, text):
    """A rule's text, with ``counter`` if it has one."""
    rules = (r for t in view.stack.tables for c in t.chains for r in c.rules if r.text == text)
    return " ".join("counter" for rule in rules if rule.packets is not None)


TRANSLATIONS = {
    "-A PREROUTING -d 10.9.9.9 -j DNAT --to-destination 10.2.0.9": udp(dst="10.9.9.9"),
    "-A PREROUTING -p udp -d 10.9.9.9 -j DNAT --to-destination 10.2.0.9:99": udp(dst="10.9.9.9"),
    "-A PREROUTING -p udp --dport 7000 -j DNAT --to-destination :99": udp(),
    "-A PREROUTING -d 10.2.0.2 -j DNAT --to-destination 10.2.0.2-10.2.0.3": udp(),
    "-A PREROUTING -d 10.9.9.0/24 -j NETMAP --to 10.2.0.0/24": udp(dst="10.9.9.9"),
    "-A POSTROUTING -s 10.1.0.0/24 -j NETMAP --to 10.7.7.0/24": udp(),
    "-A POSTROUTING -s 10.1.0.0/24 -j SNAT --to-source 10.2.0.77": icmp(),
    "-A POSTROUTING -p tcp -j SNAT --to-source 10.2.0.77:5000": tcp(),
    "-A POSTROUTING -p udp -j SNAT --to-source 10.2.0.77:3000-5000": udp(),
    "-A POSTROUTING -o o0 -j MASQUERADE": udp(),
    "-A POSTROUTING -o o0 -p udp -j MASQUERADE --to-ports 1024-65535": udp(),
    "-A POSTROUTING -o o0 -p udp -j MASQUERADE --to-ports 600": udp(),
    "-A POSTROUTING -o i0 -j MASQUERADE": udp(),
    "-A POSTROUTING -j SNAT --to-source 10.2.0.70-10.2.0.79": udp(),
    "-A POSTROUTING -j SNAT --to-source 10.1.0.1-10.1.0.9": udp(),
    "-A POSTROUTING -j SNAT --to-source 10.2.0.60-10.2.0.99 --persistent": icmp(),
    "-A PREROUTING -p udp -j DNAT --to-destination 10.2.0.2-10.2.0.3:90-99": udp(),
    "-A PREROUTING -j DNAT --to-destination 10.2.0.2-10.2.0.3 --persistent": tcp(),
    "-A PREROUTING -d 10.9.9.9 -j DNAT --to-destination 10.2.0.9 --random": udp(dst="10.9.9.9"),
}

# The kernel draws a port by lot: the walk leaves it open, and knows the rest.
BY_LOT = {
    "-A POSTROUTING -o o0 -j MASQUERADE --random-fully": udp(),
    "-A POSTROUTING -o o0 -j MASQUERADE --random": tcp(),
    "-A POSTROUTING -p udp -j SNAT --to-source 10.2.0.77:5000-6000": udp(),
    "-A POSTROUTING -p tcp -j SNAT --to-source 10.2.0.77 --random": tcp(),
    "-A PREROUTING -p udp -j DNAT --to-destination 10.2.0.3:90-99 --random": udp(),
}


@pytest.mark.parametrize("rule", BY_LOT)
def test_port_drawn_by_lot(bench, rule):
    """Where the kernel draws, a port is unknown, never a wrong one."""
    bench.clear()
    bench.load("iptables-nft-restore", text=f"*nat\n{rule}\nCOMMIT\n")
    sent = BY_LOT[rule]
    said, seen = translated(bench, sent), bench.arrived(sent)
    drawn = [mine for mine, its in zip(said, seen, strict=True) if mine != its]
    assert drawn == [KERNEL_CHOOSES]


def test_address_out_of_a_pool(bench):
    """The kernel's choice is a hash of both ends, which the walk computes."""
    bench.clear()
    rule = "-A POSTROUTING -j SNAT --to-source 10.2.0.70-10.2.0.200"
    bench.load("iptables-nft-restore", text=f"*nat\n{rule}\nCOMMIT\n")
    packets = [udp(src=f"10.1.0.{near}", dst=f"10.2.0.{far}") for near in (2, 3) for far in (2, 9)]
    said = [translated(bench, sent)[0] for sent in packets]
    assert len(set(said)) > 2
    assert said == [bench.arrived(sent)[0] for sent in packets]


def test_address_out_of_a_pool_of_ipv6(bench):
    """The same with four words to an address."""
    bench.clear()
    for line in (
        "add table ip6 n",
        "add chain ip6 n post { type nat hook postrouting priority 100 ; }",
        "add rule ip6 n post snat to fd00:2::70-fd00:2::7:200",
    ):
        bench.load("nft", line)
    packets = [udp(src="fd00:1::2", dst=f"fd00:2::{far}") for far in (2, 3, 9)]
    said = [translated(bench, sent) for sent in packets]
    assert said == [bench.arrived(sent) for sent in packets]


def test_answers_that_would_be_taken_for_another_connections(bench):
    """Two machines behind one address with one port: the second gets a port by lot."""
    bench.clear()
    rules = "*nat\n-A POSTROUTING -j SNAT --to-source 10.2.0.77\nCOMMIT\n"
    bench.load("iptables-nft-restore", text=rules)
    first, second = udp(), udp(src="10.1.0.3")
    bench.arrived(first)
    seen = bench.arrived(second, forget=False)
    said = translated(bench, replace(second, after=first))
    assert said == (seen[0], KERNEL_CHOOSES, *seen[2:])
    assert seen[1] != 4000


def test_untranslated_answers_that_would_be_another_connections(bench):
    """Who has the very address and port that another one was given cannot keep them either."""
    bench.clear()
    rules = "*nat\n-A POSTROUTING -s 10.1.0.2 -j SNAT --to-source 10.1.0.3\nCOMMIT\n"
    bench.load("iptables-nft-restore", text=rules)
    first, second = udp(), udp(src="10.1.0.3")
    bench.arrived(first)
    seen = bench.arrived(second, forget=False)
    said = translated(bench, replace(second, after=first))
    assert said == (seen[0], KERNEL_CHOOSES, *seen[2:])
    assert seen[1] != 4000


@pytest.mark.parametrize("backend", ["iptables-nft", "iptables-legacy"])
@pytest.mark.parametrize("rule", TRANSLATIONS)
def test_translation(bench, rule, backend):
    """The far side sees the addresses and ports that the walk says."""
    bench.clear()
    sent = TRANSLATIONS[rule]
    bench.load(f"{backend}-restore", text=f"*nat\n{rule}\nCOMMIT\n")
    try:
        assert translated(bench, sent) == bench.arrived(sent)
    finally:
        bench.load(f"{backend}-restore", text="*nat\nCOMMIT\n")


NFT_TRANSLATIONS = {
    "pre: dnat to ip daddr map { 10.9.9.9 : 10.2.0.9, 10.9.9.8 : 10.2.0.3 }": udp(dst="10.9.9.9"),
    "pre: dnat to ip daddr . udp dport map { 10.9.9.9 . 7000 : 10.2.0.9 . 53 }": udp(
        dst="10.9.9.9"
    ),
    "pre: dnat to udp dport map { 7000 : 10.2.0.9, 7001-7009 : 10.2.0.3 }": udp(7005),
    "pre: dnat to udp dport map { 7001-7009 : 10.2.0.3 }": udp(),
    "pre: dnat prefix to ip daddr map { 10.9.9.0/24 : 10.2.0.0/24 }": udp(dst="10.9.9.9"),
    "post: snat prefix to ip saddr map { 10.1.0.0/24 : 10.7.7.0/24 }": udp(),
    "post: snat to 10.2.0.70-10.2.0.90 persistent": udp(),
    "pre: ip daddr 10.9.9.9 dnat to numgen random mod 1 map { 0 : 10.2.0.9 }": udp(dst="10.9.9.9"),
    "pre: ip daddr 10.9.9.9 udp dport vmap { 7000 : jump to, 53 : drop }": udp(dst="10.9.9.9"),
    "post: snat to 10.2.0.77": udp(),
    "post: snat to ip saddr map { 10.1.0.2 : 10.2.0.77 }": udp(),
    "post: ip saddr 10.1.0.2 masquerade random,persistent": icmp(),
    "post: oifname o0 udp dport 7000 masquerade to :600": udp(),
}


@pytest.mark.parametrize("rule", NFT_TRANSLATIONS)
def test_translation_of_nft(bench, rule):
    """The same for nft, with its maps."""
    bench.clear()
    hook, _, text = rule.partition(": ")
    for line in (
        "add table ip n",
        "add chain ip n to",
        "add rule ip n to dnat to 10.2.0.3",
        "add chain ip n pre { type nat hook prerouting priority -100 ; }",
        "add chain ip n post { type nat hook postrouting priority 100 ; }",
        f"add rule ip n {hook} {text}",
    ):
        bench.load("nft", line)
    sent = NFT_TRANSLATIONS[rule]
    assert translated(bench, sent) == bench.arrived(sent)


@pytest.mark.parametrize("proto", [udp, tcp, icmp])
@pytest.mark.parametrize("src", ["10.2.0.2", "10.2.0.9"])
def test_errors_go_with_the_connection_they_tell_of(bench, proto, src):
    """Related, and translated back outside and inside, also those from somebody on the way."""
    bench.clear()
    rules = (
        "*nat\n-A PREROUTING -d 10.9.9.9 -j DNAT --to-destination 10.2.0.2\n"
        "-A POSTROUTING -o o0 -j SNAT --to-source 10.2.0.77\nCOMMIT\n"
        "*filter\n-A FORWARD -m conntrack --ctstate RELATED\n"
        "-A FORWARD -m conntrack --ctstate INVALID -j DROP\nCOMMIT\n"
    )
    bench.load("iptables-nft-restore", text=rules)
    asked = proto(dst="10.9.9.9")
    there = with_fields(
        asked.packet, src=ip_address("10.2.0.77"), dst=ip_address("10.2.0.2"), ttl=63
    )
    told = error(replace(asked, packet=there, after=asked), src=src)
    bench.forget()
    bench.arrived(asked)
    seen = bench.arrived(told, forget=False)
    assert seen is not None
    assert translated(bench, told) == seen
    assert str(seen[0]) == "10.9.9.9"


def test_errors_about_a_stranger_are_invalid(bench):
    """What no connection is known for, or is sent to another machine than it concerns."""
    bench.clear()
    rules = (
        "*filter\n-A FORWARD -m conntrack --ctstate RELATED\n"
        "-A FORWARD -m conntrack --ctstate INVALID\nCOMMIT\n"
    )
    bench.load("iptables-nft-restore", text=rules)
    asked, view = udp(), bench.view()
    packet = error(replace(asked, after=asked)).packet
    stranger = with_fields(packet.about, dst=ip_address("10.2.0.3"))
    found = []
    for sent in (
        packet,
        with_fields(packet, about=stranger),
        with_fields(packet, dst=ip_address("10.1.0.3")),
    ):
        told = replace(error(asked), packet=sent, after=asked)
        found.append(bench.kernel(told))
        assert walked(bench, view, told) == found[-1]
    assert ["RELATED" in str(rules) for rules in found] == [True, False, False]


def test_answers_are_translated_back(bench):
    """What comes back is seen by near as coming from whom it asked."""
    bench.clear()
    rules = (
        "*nat\n-A PREROUTING -d 10.9.9.9 -j DNAT --to-destination 10.2.0.9\n"
        "-A POSTROUTING -p udp -o o0 -j MASQUERADE --to-ports 600\nCOMMIT\n"
    )
    bench.load("iptables-nft-restore", text=rules)
    asked = udp(dst="10.9.9.9")
    there = bench.arrived(asked)
    packet = with_fields(answer(asked).packet, src=there[2], sport=there[3], dst=there[0],
                         dport=there[1])  # fmt: skip
    back = answer(asked).__class__(packet, back=True, after=asked)
    assert translated(bench, back) == bench.arrived(back, forget=False)
    assert str(translated(bench, back)[0]) == "10.9.9.9"
