"""Matches of IPv6, with the kernel as judge; see test_iptables."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec.structs import replace as with_fields

from .predicted import walked
from .sent import answer, tcp, udp

pytestmark = pytest.mark.kernel

NEAR, FAR = {"src": "fd00:1::2"}, {"dst": "fd00:2::2"}


def _ping():
    sent = udp(**NEAR, **FAR)
    packet = with_fields(sent.packet, proto="icmpv6", sport=None, dport=None, icmp_type=128,
                         icmp_code=0, icmp_id=7)  # fmt: skip
    return replace(sent, packet=packet)


PACKETS = {
    "ping": _ping(),
    "syn 80": tcp(80, **NEAR, **FAR),
    "syn-ack": answer(tcp(80, **NEAR, **FAR)),
    "dns": udp(53, **NEAR, **FAR),
    "from .3": udp(53, src="fd00:1::3", **FAR),
    "from afar": udp(53, src="2001:db8::1", **FAR),
    "ttl 3": udp(7000, ttl=3, **NEAR, **FAR),
}
ALL = set(PACKETS)
BACK = {"syn-ack"}

IP6TABLES = {
    "-s fd00:1::/64": ALL - BACK - {"from afar"},
    "! -d fd00:2::2/128": BACK,
    "-p ipv6-icmp -m icmp6 --icmpv6-type 128": {"ping"},
    "-p ipv6-icmp": {"ping"},
    "-p tcp -m tcp --dport 80": {"syn 80"},
    "-m hl --hl-lt 10": {"ttl 3"},
    "-m hl --hl-eq 63": ALL - {"ttl 3"},
    "-m hl --hl-gt 60": ALL - {"ttl 3"},
    "-m conntrack --ctstate NEW": ALL - BACK,
    "-m conntrack --ctorigsrc fd00:1::2/128": ALL - {"from .3", "from afar"},
    "-m iprange --src-range fd00:1::3-fd00:1::9": {"from .3"},
    "-m addrtype --dst-type UNICAST": ALL,
    "-m set --match-set nets6 src": {"from afar"},
    "-m rt --rt-type 0": set(),
    "-m rt ! --rt-type 0 --rt-segsleft 0": set(),
    "-m frag --fragmore": set(),
    "-m tos --tos 0x00": ALL,
    "-m set --match-set ports6 dst,dst": {"dns", "from .3", "from afar"},
}
NFT = {
    "ip6 saddr fd00:1::/64": ALL - BACK - {"from afar"},
    "ip6 saddr { fd00:1::3, 2001:db8::/32 }": {"from .3", "from afar"},
    "ip6 saddr != fd00:1::2": {"from .3", "from afar", "syn-ack"},
    "ip saddr != 10.1.0.2": set(),
    "meta nfproto ipv6": ALL,
    "meta protocol ip6": ALL,
    "ip6 nexthdr tcp": {"syn 80", "syn-ack"},
    "icmpv6 type echo-request": {"ping"},
    "ip6 hoplimit < 10": {"ttl 3"},
    "ip6 daddr . tcp dport { fd00:2::2 . 80 }": {"syn 80"},
    "ct original ip6 saddr fd00:1::2": ALL - {"from .3", "from afar"},
    "fib daddr type unicast": ALL,
    "rt type 0": set(),
    "exthdr frag exists": set(),
    "exthdr frag missing": ALL,
    "ip6 length 44": ALL,
    "udp length < 100": {"dns", "from .3", "from afar", "ttl 3"},
}
IPSETS = """\
create nets6 hash:net family inet6
add nets6 2001:db8::/32
create ports6 hash:ip,port family inet6
add ports6 fd00:2::2,udp:53
"""


@pytest.fixture(scope="module")
def rules(bench):
    """The rules of both in the hook forward."""
    bench.clear()
    bench.load("ipset", "-exist", "restore", text=IPSETS)
    lines = ["*filter", *(f"-A FORWARD {rule}" for rule in IP6TABLES), "COMMIT", ""]
    bench.load("ip6tables-nft-restore", text="\n".join(lines))
    bench.load("nft", "add table inet t")
    bench.load("nft", "add chain inet t c { type filter hook forward priority 1 ; }")
    for rule in NFT:
        bench.load("nft", f"add rule inet t c {rule} counter")
    yield bench, bench.view()
    bench.load("nft", "flush ruleset")


@pytest.mark.parametrize("name", PACKETS)
def test_ipv6(rules, name):
    """The kernel, the walk and the tables above agree on what a packet matches."""
    bench, view = rules
    kernel = bench.kernel(PACKETS[name])
    assert walked(bench, view, PACKETS[name]) == kernel
    chains = {t.family: t.chains[0].rules for t in view.stack.tables if t.name != "sentinel"}
    read = (*chains["ip6"], *chains["inet"])
    written = (*IP6TABLES.values(), *NFT.values())
    assert {r.text for r, names in zip(read, written, strict=True) if name in names} == kernel
