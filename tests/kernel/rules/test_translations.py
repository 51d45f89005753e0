"""Translations of addresses and ports, with the kernel as judge."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from msgspec.structs import replace as with_fields

from kvmdiag.model.packet import KERNEL_CHOOSES

from .predicted import translated, walked
from .sent import answer, error, icmp, tcp, udp

pytestmark = pytest.mark.kernel

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


@pytest.mark.parametrize("backend", ["iptables-nft", "iptables-legacy"])
@pytest.mark.parametrize("rule", TRANSLATIONS)
def test_translation(bench, rule, backend):
    """The far side sees the addresses and ports that the walk says."""
    bench.iptables("*nat", rule, program=backend)
    sent = TRANSLATIONS[rule]
    try:
        assert translated(bench, sent) == bench.arrived(sent)
    finally:
        bench.load(f"{backend}-restore", text="*nat\nCOMMIT\n")


@pytest.mark.parametrize("rule", NFT_TRANSLATIONS)
def test_translation_of_nft(bench, rule):
    """The same for nft, with its maps."""
    hook, _, text = rule.partition(": ")
    bench.nft(
        "add table ip n",
        "add chain ip n to",
        "add rule ip n to dnat to 10.2.0.3",
        "add chain ip n pre { type nat hook prerouting priority -100 ; }",
        "add chain ip n post { type nat hook postrouting priority 100 ; }",
        f"add rule ip n {hook} {text}",
    )
    sent = NFT_TRANSLATIONS[rule]
    assert translated(bench, sent) == bench.arrived(sent)


def test_answers_are_translated_back(bench):
    """What comes back is seen by near as coming from whom it asked."""
    bench.iptables(
        "*nat",
        "-A PREROUTING -d 10.9.9.9 -j DNAT --to-destination 10.2.0.9",
        "-A POSTROUTING -p udp -o o0 -j MASQUERADE --to-ports 600",
    )
    asked = udp(dst="10.9.9.9")
    there = bench.arrived(asked)
    packet = with_fields(answer(asked).packet, src=there[2], sport=there[3], dst=there[0],
                         dport=there[1])  # fmt: skip
    back = answer(asked).__class__(packet, back=True, after=asked)
    assert translated(bench, back) == bench.arrived(back, forget=False)
    assert str(translated(bench, back)[0]) == "10.9.9.9"


@pytest.mark.parametrize("rule", BY_LOT)
def test_port_drawn_by_lot(bench, rule):
    """Where the kernel draws, a port is unknown, never a wrong one."""
    bench.iptables("*nat", rule)
    sent = BY_LOT[rule]
    said, seen = translated(bench, sent), bench.arrived(sent)
    drawn = [mine for mine, its in zip(said, seen, strict=True) if mine != its]
    assert drawn == [KERNEL_CHOOSES]


def test_address_out_of_a_pool(bench):
    """The kernel's choice is a hash of both ends, which the walk computes."""
    bench.iptables("*nat", "-A POSTROUTING -j SNAT --to-source 10.2.0.70-10.2.0.200")
    packets = [udp(src=f"10.1.0.{near}", dst=f"10.2.0.{far}") for near in (2, 3) for far in (2, 9)]
    said = [translated(bench, sent)[0] for sent in packets]
    assert len(set(said)) > 2
    assert said == [bench.arrived(sent)[0] for sent in packets]


def test_address_out_of_a_pool_of_ipv6(bench):
    """The same with four words to an address."""
    bench.nft(
        "add table ip6 n",
        "add chain ip6 n post { type nat hook postrouting priority 100 ; }",
        "add rule ip6 n post snat to fd00:2::70-fd00:2::7:200",
    )
    packets = [udp(src="fd00:1::2", dst=f"fd00:2::{far}") for far in (2, 3, 9)]
    said = [translated(bench, sent) for sent in packets]
    assert said == [bench.arrived(sent) for sent in packets]


def test_answers_that_would_be_taken_for_another_connections(bench):
    """Two machines behind one address with one port: the second gets a port by lot."""
    bench.iptables("*nat", "-A POSTROUTING -j SNAT --to-source 10.2.0.77")
    _second_is_given_a_port_by_lot(bench)


def test_untranslated_answers_that_would_be_another_connections(bench):
    """Who has the very address and port that another one was given cannot keep them either."""
    bench.iptables("*nat", "-A POSTROUTING -s 10.1.0.2 -j SNAT --to-source 10.1.0.3")
    _second_is_given_a_port_by_lot(bench)


def _second_is_given_a_port_by_lot(bench):
    """Near speaks first, then another machine from the same port."""
    first, second = udp(), udp(src="10.1.0.3")
    bench.arrived(first)
    seen = bench.arrived(second, forget=False)
    said = translated(bench, replace(second, after=first))
    assert said == (seen[0], KERNEL_CHOOSES, *seen[2:])
    assert seen[1] != 4000


@pytest.mark.parametrize("proto", [udp, tcp, icmp])
@pytest.mark.parametrize("src", ["10.2.0.2", "10.2.0.9"])
def test_errors_go_with_the_connection_they_tell_of(bench, proto, src):
    """Related, and translated back outside and inside, also those from somebody on the way."""
    bench.iptables(
        "*nat",
        "-A PREROUTING -d 10.9.9.9 -j DNAT --to-destination 10.2.0.2",
        "-A POSTROUTING -o o0 -j SNAT --to-source 10.2.0.77",
        "COMMIT",
        "*filter",
        "-A FORWARD -m conntrack --ctstate RELATED",
        "-A FORWARD -m conntrack --ctstate INVALID -j DROP",
    )
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
    bench.iptables(
        "*filter",
        "-A FORWARD -m conntrack --ctstate RELATED",
        "-A FORWARD -m conntrack --ctstate INVALID",
    )
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
