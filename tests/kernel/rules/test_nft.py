"""Every supported match of nft, with the kernel as judge; see test_iptables."""

from __future__ import annotations

import pytest

from .packets import ALL, BACK, ICMP, NEAR, PACKETS, PLAIN, SPOOFED, TCP, UDP
from .predicted import walked

pytestmark = pytest.mark.kernel

SETS = """\
add set inet t hosts { type ipv4_addr; flags interval,timeout; }
add element inet t hosts { 10.1.0.3 timeout 1h, 10.1.0.64/26, 172.16.0.0-172.16.9.9 }
add set inet t services { type ipv4_addr . inet_proto . inet_service; flags interval; }
add element inet t services { 10.2.0.0/24 . tcp . 80-90, 10.2.0.2 . udp . 53 }
add set inet t links { type ifname; flags interval; }
add element inet t links { "i*", eth0 }
add set inet t marked { typeof ip saddr . meta mark; }
add element inet t marked { 10.1.0.2 . 0x13 }
add set inet t macs { type ether_addr; }
add element inet t macs { 02:00:00:00:01:02 }
add map inet t marks { type inet_service : mark; }
add element inet t marks { 53 : 0x13 }
add chain inet t to_dns
add chain inet t to_other
add rule inet t to_dns counter comment "dns"
add rule inet t to_other meta l4proto udp counter comment "other"
add map inet t verdicts { type ipv4_addr . inet_proto . inet_service : verdict; }
add element inet t verdicts { 10.2.0.2 . udp . 53 : jump to_dns, 10.2.0.9 . udp . 7000 : jump to_other }
"""  # noqa: E501

FORWARD = {
    "ip saddr 10.1.0.2": NEAR,
    "ip saddr != 10.1.0.2": ALL - NEAR,
    "ip saddr { 10.1.0.3, 10.1.0.70-10.1.0.80 }": {"from .3", "from .77"},
    "ip saddr @hosts": {"from .3", "from .77", "from afar"},
    "ip saddr != @hosts": ALL - {"from .3", "from .77", "from afar"},
    "ip daddr . meta l4proto . th dport @services": {"dns", "syn 80", "ack 80"},
    "ip daddr . meta l4proto . th dport != @services": ALL - {"dns", "syn 80", "ack 80"},
    "iifname @links": ALL - BACK,
    'iifname . oifname { "i0" . "o0" }': ALL - BACK,
    'iifname "i*"': ALL - BACK,
    'iif "i0"': ALL - BACK,
    'oifname != { "o0", "eth0" }': BACK,
    'meta iifkind "veth"': ALL,
    "ip saddr . meta mark @marked": {"dns"},
    "ether saddr @macs": ALL - BACK,
    "ether saddr 02:00:00:00:01:02 ip saddr 10.1.0.3": {"from .3"},
    "meta l4proto { tcp, icmp }": TCP | ICMP,
    "meta l4proto != udp": TCP | ICMP,
    "ip protocol udp": UDP,
    "meta nfproto ipv4": ALL,
    "meta protocol ip": ALL,
    "tcp dport 80": {"syn 80", "ack 80"},
    "tcp dport != 80": {"syn-ack"},
    "udp dport { 53, 6000-6999 }": {"dns"},
    "udp dport > 6999": PLAIN,
    "udp sport < 5000": UDP - {"udp answer"},
    "meta l4proto { tcp, udp } th dport 53": {"dns"},
    "tcp flags & (fin|syn|rst|ack) == syn": {"syn 80"},
    "tcp flags & (syn|ack) != syn": {"ack 80", "syn-ack"},
    "tcp flags syn": {"syn 80", "syn-ack"},
    "tcp flags == syn": {"syn 80"},
    "tcp flags ! syn": {"ack 80"},
    "icmp type echo-request": {"ping"},
    "icmp type { echo-request, echo-reply }": {"ping", "pong"},
    "icmp type != echo-request": {"odd icmp", "pong"},
    "icmp type . icmp code { destination-unreachable . frag-needed }": {"odd icmp"},
    "icmp code 4": {"odd icmp"},
    "ct state new": ALL - BACK - {"odd icmp"},
    "ct state { established, related }": BACK,
    "ct state established,related": BACK,
    "ct state != established": ALL - BACK,
    "ct state invalid": {"odd icmp"},
    "ct direction reply": BACK,
    "ct direction original": ALL - BACK - {"odd icmp"},
    "ct original ip daddr 10.2.0.9": {"to .9"},
    "ct original ip saddr 10.1.0.0/24": ALL - SPOOFED - {"odd icmp"},
    "ct status seen-reply": BACK,
    "ct status confirmed,assured": BACK,
    "ct status ! confirmed": ALL - BACK - {"odd icmp"},
    "ct status dnat": set(),
    "ct mark 0x20": {"to .9"},
    "ct mark != 0x20": ALL - {"to .9", "odd icmp"},
    "meta mark 0x13": {"dns"},
    "meta mark & 0xf0 == 0x10": {"dns"},
    "meta mark { 0x13, 0x14 }": {"dns"},
    "meta mark != { 0x13, 0x14 }": ALL - {"dns"},
    "fib daddr type unicast": ALL,
    "fib saddr type { local, broadcast }": set(),
    "fib daddr . iif type local": set(),
    "ip ttl 63": ALL - {"ttl 3"},
    "ip ttl < 10": {"ttl 3"},
    "ip length 400-600": {"long"},
    "ip hdrlength 5": ALL,
    "ip hdrlength != 5": set(),
    "udp length 480": {"long"},
    "rt type 0": set(),
    "exthdr frag exists": set(),
    "exthdr frag missing": set(),
    "meta skuid 0": set(),
    "meta skuid != 0": set(),
    "meta length > 400": {"long"},
    "ip dscp cs0": ALL,
    "ip dscp { cs1, ef }": set(),
    "ip frag-off & 0x1fff == 0": ALL,
    "meta pkttype host": ALL,
    "ct state vmap { new : jump to_other, established : jump to_dns }": set(),
    "ip daddr . meta l4proto . th dport vmap @verdicts": set(),
}

PREROUTING = {
    "meta mark set udp dport map @marks": {"dns"},
    "ip daddr 10.2.0.9 ct mark set 0x20": {"to .9"},
    "fib saddr . iif oif missing": SPOOFED,
    "fib saddr . iif oif != 0": ALL - SPOOFED,
    "fib saddr oif missing": {"from afar"},
    'fib saddr oifname "o0"': BACK | {"from far's"},
    "fib saddr . mark . iif oif exists": ALL - SPOOFED,
}


@pytest.fixture(scope="module")
def nft(bench):
    """The rules at the hooks prerouting and forward."""
    bench.clear()
    lines = ["add table inet t", *SETS.splitlines()]
    for hook, rules in (("prerouting", PREROUTING), ("forward", FORWARD)):
        priority = -150 if hook == "prerouting" else 0
        lines.append(f"add chain inet t at_{hook} "
                     f"{{ type filter hook {hook} priority {priority} ; }}")  # fmt: skip
        lines += (f"add rule inet t at_{hook} {counted(rule)}" for rule in rules)
    for line in lines:  # as one transaction the kernel refuses some of them for their number
        bench.load("nft", line)
    yield bench, bench.view()
    bench.load("nft", "flush ruleset")


def counted(rule):
    """The rule with a counter, but for a map of verdicts: where that leads is counted."""
    return rule if " vmap " in rule else f"{rule} counter"


@pytest.mark.parametrize("name", PACKETS)
def test_nft(nft, name):
    """The kernel, the walk and the tables above agree on what a packet matches."""
    bench, view = nft
    kernel = bench.kernel(PACKETS[name])
    matched = walked(bench, view, PACKETS[name])
    assert {rule for rule in matched if " vmap " not in rule} == kernel
    assert expected(view, name) == kernel
    # A map without an element for the packet breaks the rule off; one that has it matches.
    assert any("@verdicts" in rule for rule in matched) is (name in {"dns", "to .9"})


def expected(view, name):
    """Texts, as they were read back, of the rules that the tables above say match."""
    (table,) = (table for table in view.stack.tables if table.name == "t")
    found = set()
    for chain, written in (("at_prerouting", PREROUTING), ("at_forward", FORWARD)):
        rules = table.chain(chain).rules
        found |= {
            rule.text for rule, names in zip(rules, written.values(), strict=True) if name in names
        }
    dns, other = table.chain("to_dns").rules[0].text, table.chain("to_other").rules[0].text
    if name in BACK | {"dns"}:
        found.add(dns)
    if name in UDP - BACK:
        found.add(other)
    return found
