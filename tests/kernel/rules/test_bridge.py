"""Rules of bridges, as nwfilter makes them, with the kernel as judge: what gets across."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from kvmdiag.collect.netfilter.tables import read_tables
from kvmdiag.collect.stack import read_stack
from kvmdiag.model.packet import Packet
from kvmdiag.model.stack import Stack
from kvmdiag.simulate.facts.conntrack import Conntrack
from kvmdiag.simulate.facts.stack_view import StackView
from kvmdiag.simulate.rules.context import Context
from kvmdiag.simulate.rules.hook import run_hook
from kvmdiag.simulate.segment import arp
from kvmdiag.system.namespaces import entered

pytestmark = pytest.mark.kernel

MAC = "52:54:00:aa:bb:0c"
SPOOFING = (  # clean-traffic of libvirt, in short
    "-N I-v0 -P DROP",
    "-N I-v0-ipv4 -P DROP",
    "-N I-v0-arp -P DROP",
    "-A PREROUTING -i v0 -j I-v0",
    f"-A I-v0 -s ! {MAC} -j DROP",
    "-A I-v0 -p IPv4 -j I-v0-ipv4",
    "-A I-v0 -p ARP -j I-v0-arp",
    "-A I-v0-ipv4 -p IPv4 --ip-src ! 192.0.2.2 -j DROP",
    "-A I-v0-ipv4 -p IPv4 --ip-proto udp --ip-dport 67:68 -j DROP",
    "-A I-v0-ipv4 -p IPv4 --ip-proto udp --ip-dport 69 --log -j DROP",
    "-A I-v0-ipv4 -p IPv4 --ip-tos 0x10 -j DROP",
    "-A I-v0-ipv4 -p IPv4 --ip-proto icmp --ip-icmp-type 8 -j DROP",
    "-A I-v0-ipv4 -p IPv4 --ip-src 192.0.2.0/24 -j ACCEPT",
    f"-A I-v0-arp -p ARP --arp-mac-src ! {MAC} -j DROP",
    "-A I-v0-arp -p ARP --arp-ip-src ! 192.0.2.2 -j DROP",
    "-A I-v0-arp -p ARP --arp-op Request_Reverse -j DROP",
    "-A I-v0-arp -p ARP --arp-gratuitous -j DROP",
    "-A I-v0-arp -p ARP --arp-htype 2 -j DROP",
    "-A I-v0-arp -p ARP --arp-ptype 0x86dd -j DROP",
    "-A I-v0-arp -p ARP --arp-op Request -j ACCEPT",
)
NFT = (
    "add table bridge f",
    "add chain bridge f in { type filter hook forward priority 0 ; }",
    f"add rule bridge f in iifname v0 ether saddr != {MAC} drop",
    "add rule bridge f in iifname v0 ether type ip ip saddr != 192.0.2.2 drop",
    "add rule bridge f in iifname v0 arp saddr ip != 192.0.2.2 drop",
    "add rule bridge f in ip protocol udp udp dport { 67, 68, 69 } drop",
    "add rule bridge f in iifname . ether saddr { v0 . 52:54:00:aa:bb:ff } drop",
)
FRAMES = {
    "honest": ("udp", MAC, "192.0.2.2", 5000),
    "of another address": ("udp", MAC, "192.0.2.77", 5000),
    "of another MAC": ("udp", "52:54:00:aa:bb:ff", "192.0.2.2", 5000),
    "from a DHCP client": ("udp", MAC, "192.0.2.2", 67),
    "logged": ("udp", MAC, "192.0.2.2", 69),
    "honest question": ("arp", MAC, "192.0.2.2", 0),
    "question for another": ("arp", MAC, "192.0.2.77", 0),
    "question of another MAC": ("arp", "52:54:00:aa:bb:ff", "192.0.2.2", 0),
}


@pytest.fixture
def bridge(namespaces):
    """A bridge with ports v0 and v1 between two machines, and without anything of its own."""
    one, host, other = namespaces("one"), namespaces("host"), namespaces("other")
    one.cable("e0", host, "v0")
    other.cable("e0", host, "v1")
    for machine in (one, other):
        machine.sysctl("net.ipv6.conf.all.disable_ipv6", 1)
        machine.ip("link set e0 up")
    host.ip("link add br0 type bridge", "link set br0 up",
            *(f"link set {v} master br0 up" for v in ("v0", "v1")))  # fmt: skip
    return one, host, other


@pytest.mark.parametrize("made_by", ["ebtables", "nft"])
def test_spoofed_frames(bridge, eventually, made_by):
    """What gets across the bridge, and what the walk's hooks let pass, is the same."""
    one, host, other = bridge
    if made_by == "ebtables":
        for rule in SPOOFING:
            host.run(f"ebtables-nft -t nat {rule}")
    else:
        for line in NFT:
            host.run(["nft", line])
    with entered(host.path):
        tables, gaps = read_tables("host")
        links = read_stack("host", "host", host.path).stack.links
    view = StackView(Stack(name="host", kind="host", netns=None, tables=tables, links=links))
    assert not gaps
    with _listening(other.path) as far, _listening(one.path) as near:
        eventually(lambda: _crosses(near, far, None), "the bridge does not forward")
        for name, frame in FRAMES.items():
            assert _passes(view, *frame) == _crosses(near, far, frame), name


def _passes(view, kind, mac, src, port):
    """Whether the walk's hooks let a frame from v0 to v1 pass."""
    source, to = ip_address(src), ip_address("192.0.2.3")
    if kind == "arp":
        asked = arp.question(source, to, mac)
        return all(
            arp.stopped_by(view, asked, "bridge", hook, into, out) is None
            for hook, into, out in _WAY
        )
    packet = Packet(src=source, dst=to, proto="udp", sport=4000, dport=port)
    return all(
        run_hook(
            Context(view=view, hook=hook, family="bridge", packet=packet, in_link=into,
                    out_link=out, src_mac=mac, dst_mac="52:54:00:00:00:03"),
            Conntrack(),
        ).kind == "accept"
        for hook, into, out in _WAY
    )  # fmt: skip


_WAY = (("prerouting", "v0", None), ("forward", "v0", "v1"), ("postrouting", None, "v1"))


def _listening(path):
    import socket

    with entered(path):
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    opened.bind(("e0", 3))
    opened.settimeout(0.15)
    return opened


def _crosses(near, far, frame):
    """Whether the far side gets a frame; ``None`` stands for one that no rule is about."""
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import ARP, Ether

    kind, mac, src, port = frame or ("udp", MAC, "192.0.2.2", 5001)
    if kind == "arp":
        header = Ether(src=mac, dst="ff:ff:ff:ff:ff:ff")
        data = bytes(header / ARP(hwsrc=mac, psrc=src, pdst="192.0.2.3"))
    else:
        data = bytes(Ether(src=mac, dst="52:54:00:00:00:03") / IP(src=src, dst="192.0.2.3")
                     / UDP(sport=4000, dport=port))  # fmt: skip
    near.send(data)
    try:
        while True:
            if far.recv(2048)[: len(data)] == data:
                return True
    except TimeoutError:
        return False
