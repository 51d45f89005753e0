"""Every supported match, with the kernel as judge.

Each rule stands with the names of the packets that match it, of all those in packets.py. The
kernel's own counters must agree, and so must the walk.
"""

from __future__ import annotations

import pytest

from .packets import ALL, BACK, ICMP, NEAR, PACKETS, SPOOFED, TCP, UDP
from .predicted import walked

pytestmark = pytest.mark.kernel

IPTABLES = {
    "-s 10.1.0.2/32": NEAR,
    "! -s 10.1.0.2/32": ALL - NEAR,
    "-d 10.2.0.0/24": ALL - BACK,
    "-i i0": ALL - BACK,
    "! -i i0": BACK,
    "-o o+": ALL - BACK,
    "-p tcp": TCP,
    "! -p udp": ALL - UDP,
    "-p udp -m udp --dport 53": {"dns"},
    "-p udp -m udp ! --dport 7000": {"dns", "udp answer"},
    "-p udp -m udp --sport 4000:5000": UDP - {"udp answer"},
    "-p udp -m multiport --dports 53,6000:6999": {"dns"},
    "-p udp -m multiport ! --ports 53,7000": set(),
    "-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN": {"syn 80"},
    "-p tcp -m tcp ! --tcp-flags SYN,ACK SYN": {"ack 80", "syn-ack"},
    "-p icmp -m icmp --icmp-type 8": {"ping"},
    "-p icmp -m icmp --icmp-type 3/4": {"odd icmp"},
    "-p icmp -m icmp ! --icmp-type 8": {"odd icmp", "pong"},
    "-p icmp -m icmp --icmp-type any": ICMP,
    "-p tcp -m tcp --syn": {"syn 80"},
    "-m iprange --src-range 10.1.0.3-10.1.0.90": {"from .3", "from .77"},
    "-m iprange --dst-range 10.2.0.5-10.2.0.20": {"to .9"},
    "-m iprange ! --dst-range 10.2.0.0-10.2.0.255": BACK,
    "-m conntrack --ctstate NEW": ALL - BACK - {"odd icmp"},
    "-m conntrack --ctstate RELATED,ESTABLISHED": BACK,
    "-m conntrack --ctstate INVALID": {"odd icmp"},
    "-m conntrack ! --ctstate INVALID,UNTRACKED": ALL - {"odd icmp"},
    "-m state --state ESTABLISHED": BACK,
    "-m conntrack --ctdir REPLY": BACK,
    "-m conntrack --ctorigsrc 10.1.0.0/24": ALL - SPOOFED - {"odd icmp"},
    "-m conntrack ! --ctorigsrc 10.1.0.3": ALL - {"from .3", "odd icmp"},
    "-p tcp -m conntrack --ctorigdstport 80": TCP,
    "-m conntrack --ctrepldst 10.1.0.2": (NEAR | BACK) - {"odd icmp"},
    "-m conntrack --ctreplsrc 10.2.0.9": {"to .9"},
    "-m conntrack --ctproto 17": UDP,
    "-p udp -m conntrack --ctorigsrcport 4000:5000": UDP,
    "-p udp -m conntrack --ctreplsrcport 53": {"dns"},
    "-p udp -m conntrack ! --ctrepldstport 4000:5000": set(),
    "-m mark --mark 0x10/0xf0": {"dns"},
    "-m mark ! --mark 0x0": {"dns"},
    "-m conntrack --ctstatus SEEN_REPLY": BACK,
    "-m conntrack --ctstatus CONFIRMED,ASSURED": BACK,
    "-m conntrack ! --ctstatus CONFIRMED": ALL - BACK - {"odd icmp"},
    "-m conntrack --ctstatus ASSURED": set(),
    "-m tos --tos 0x00": ALL,
    "-m tos ! --tos 0x00/0x0f": set(),
    "-m tos --tos 0x10/0x3f": set(),
    "-m connmark --mark 0x20": {"udp 7000", "udp answer", "ttl 3", "long", "may be cut", "to .9"},
    "-m connmark ! --mark 0x20": ALL
    - {"udp 7000", "udp answer", "ttl 3", "long", "may be cut", "to .9", "odd icmp"},
    "-m addrtype --src-type UNICAST": ALL,
    "-m addrtype ! --dst-type LOCAL": ALL,
    "-m addrtype --dst-type LOCAL": set(),
    "-m length --length 400:600": {"long"},
    "-m ttl --ttl-lt 10": {"ttl 3"},
    "-m ttl --ttl-eq 63": ALL - {"ttl 3"},
    "-m ttl --ttl-gt 60": ALL - {"ttl 3"},
    "! -f": ALL,
    "-m pkttype --pkt-type unicast": ALL,
    "-m dscp --dscp 0x00": ALL,
    "-m mac --mac-source 02:00:00:00:01:02": ALL - BACK,
    "-m set --match-set hosts src": {"from .3", "from .77"},
    "-m set ! --match-set hosts src": ALL - {"from .3", "from .77"},
    "-m set --match-set nets src": ALL - BACK - {"from .77", "from far's"},
    "-m set --match-set ports dst,dst": {"dns", "syn 80", "ack 80"},
    "-m set --match-set both src": {"from .3", "from .77"},
    "-m set --match-set bits dst": {"dns"},
    "-m set --match-set links src,src": ALL - BACK - SPOOFED,
    "-m set --match-set triple src,dst,dst": {"dns"},
    "-m physdev ! --physdev-is-bridged": ALL,
    "-m physdev --physdev-in i0": set(),
    "-m physdev ! --physdev-in i0": ALL,
    "-m physdev ! --physdev-is-in": ALL,
    "-m addrtype --dst-type LOCAL --limit-iface-in": set(),
    "-m addrtype --dst-type UNICAST --limit-iface-out": ALL,
    "-m comment --comment x": ALL,
}

PREROUTING = {
    "-p udp --dport 53 -j MARK --set-xmark 0x13/0xff": {"dns"},
    "-s 10.1.0.2 -p udp --dport 7000 -j CONNMARK --set-xmark 0x20": {
        "udp 7000", "to .9", "ttl 3", "long", "may be cut",
    },
    "-m rpfilter": ALL - SPOOFED,
    "-m rpfilter --invert": SPOOFED,
    "-m rpfilter --loose --invert": {"from afar"},
    "-m rpfilter --validmark": ALL - SPOOFED,
    "-m rpfilter --accept-local --invert": SPOOFED,
}  # fmt: skip

# What comes by has no socket here; iptables asks for one where packets leave only.
POSTROUTING = {
    "-m owner --uid-owner 0": set(),
    "-m owner ! --uid-owner 0": ALL,
    "-m owner ! --uid-owner 0 --gid-owner 0": set(),
    "-m owner ! --socket-exists": ALL,
}

IPSETS = """\
create hosts hash:ip
add hosts 10.1.0.3
add hosts 10.1.0.77
create nets hash:net
add nets 10.1.0.0/24
add nets 10.1.0.64/26 nomatch
add nets 172.16.0.0/12
create ports hash:ip,port
add ports 10.2.0.2,udp:53
add ports 10.2.0.2,tcp:80
create bits bitmap:port range 0-1024
add bits 53
create links hash:net,iface
add links 10.1.0.0/24,i0
create triple hash:ip,port,net
add triple 10.1.0.2,udp:53,10.2.0.0/16
create both list:set
add both hosts
"""


@pytest.fixture(scope="module", params=["iptables-nft", "iptables-legacy"])
def iptables(bench, request):
    """The rules in FORWARD, and those in the mangle table's PREROUTING and POSTROUTING."""
    bench.clear()
    bench.load("ipset", "-exist", "restore", text=IPSETS)
    save = ["*mangle", *(f"-A PREROUTING {rule}" for rule in PREROUTING)]
    save += [*(f"-A POSTROUTING {rule}" for rule in POSTROUTING), "COMMIT"]
    save += ["*filter", *(f"-A FORWARD {rule}" for rule in IPTABLES), "COMMIT", ""]
    bench.load(f"{request.param}-restore", text="\n".join(save))
    yield bench, bench.view()
    bench.load(f"{request.param}-restore", text="*mangle\nCOMMIT\n*filter\nCOMMIT\n")
    bench.load("nft", "flush ruleset")


@pytest.mark.parametrize("name", PACKETS)
def test_iptables(iptables, name):
    """The kernel, the walk and the table above agree on what a packet matches."""
    bench, view = iptables
    sent = PACKETS[name]
    kernel = bench.kernel(sent)
    assert walked(bench, view, sent) == kernel
    assert expected(view, name) == kernel


def expected(view, name):
    """Texts, as they were read back, of the rules that the tables above say match."""
    tables = {table.name: table for table in view.stack.tables if table.family == "ip"}
    read = (
        *tables["mangle"].chain("PREROUTING").rules,
        *tables["mangle"].chain("POSTROUTING").rules,
        *tables["filter"].chain("FORWARD").rules,
    )
    written = (*PREROUTING.values(), *POSTROUTING.values(), *IPTABLES.values())
    return {rule.text for rule, names in zip(read, written, strict=True) if name in names}
