"""What targets do, with the kernel as judge: marks, zones, the time to live."""

from __future__ import annotations

import pytest

from .predicted import walked
from .sent import answer, icmp, udp

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
    bench.nft(
        "add table ip m",
        "add chain ip m c { type filter hook forward priority 0 ; }",
        "add rule ip m c meta mark set 0x7",
        *(f"add rule ip m c {rule}" for rule in NFT_MARKS),
    )
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
