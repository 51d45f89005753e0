"""Every supported match and mark of ebtables, with the kernel as judge.

Each rule counts and lets go on, so all frames get across; the kernel's counters must agree with
what the walk's hooks say they matched.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import ip_address

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, Ether

from kvmdiag.collect.netfilter.tables import read_tables
from kvmdiag.collect.stack import read_stack
from kvmdiag.model.packet import Packet
from kvmdiag.simulate.facts.conntrack import UNTRACKED, Conntrack
from kvmdiag.simulate.facts.stack_view import StackView
from kvmdiag.simulate.rules.context import Context
from kvmdiag.simulate.rules.hook import run_hook
from kvmdiag.simulate.segment import arp
from kvmdiag.system.namespaces import entered

pytestmark = pytest.mark.kernel

NEAR, FAR, OTHER = "02:00:00:00:00:02", "02:00:00:00:00:03", "52:54:00:aa:bb:0c"
ALL_BITS = "ff:ff:ff:ff:ff:ff"
RULES = (
    "-p ARP --arp-op Request",
    "-p ARP --arp-op ! Request",
    "-p ARP --arp-op 2",
    "-p ARP --arp-ip-src 192.0.2.2",
    "-p ARP --arp-ip-src ! 192.0.2.2",
    "-p ARP --arp-ip-dst 192.0.2.0/24",
    "-p ARP --arp-ip-dst ! 192.0.2.0/24",
    f"-p ARP --arp-mac-src {OTHER}",
    f"-p ARP --arp-mac-src ! {OTHER}",
    f"-p ARP --arp-mac-dst {FAR}",
    f"-p ARP --arp-mac-dst ! {FAR}",
    "-p ARP --arp-htype 1 --arp-ptype 0x800",
    "-p ARP --arp-gratuitous",
    "-p ! ARP",
    f"-s {OTHER}",
    f"-s ! {OTHER}",
    "-s 52:54:00:00:00:00/ff:ff:ff:00:00:00",
    "-s ! 52:54:00:00:00:00/ff:ff:ff:00:00:00",
    "-d Multicast",
    "-d ! Broadcast",
    "-d 02:00:00:00:00:00/fe:ff:00:00:00:00",
    "-i v0 -o v+",
    "-i ! v0",
    "-p IPv4 --ip-src 192.0.2.0/24 --ip-dst ! 192.0.2.9",
    "-p IPv4 --ip-proto tcp --ip-dport 80:90",
    "-p IPv4 --ip-proto udp --ip-sport ! 4000",
    "-p IPv4 --ip-proto icmp --ip-icmp-type echo-request",
    "-p IPv4 --ip-proto igmp --ip-igmp-type membership-query",
    "-p IPv4 --ip-tos 0x10",
    "-p IPv6 --ip6-src 2001:db8::/64",
    "-p IPv6 --ip6-src ! 2001:db8::2",
    "-p IPv6 --ip6-dst 2001:db8::/ffff:ffff:ffff:ffff::",
    "-p IPv6 --ip6-proto tcp --ip6-dport 80",
    "-p IPv6 --ip6-proto tcp --ip6-dport ! 80",
    "-p IPv6 --ip6-proto udp --ip6-sport 4000:5000",
    "-p IPv6 --ip6-proto ipv6-icmp --ip6-icmp-type echo-request",
    "-p IPv6 --ip6-proto ipv6-icmp --ip6-icmp-type 128:129/0:255",
    "-p IPv6 --ip6-tclass 0x10",
    "--mark 0",
    "-p IPv6 -j mark --mark-set 0x5 --mark-target CONTINUE",
    "--mark 0x5",
    "--mark ! 0x5",
    "-p IPv6 -j mark --mark-or 0x12 --mark-target CONTINUE",
    "--mark 0x17/0xff",
    "--mark /0x10",
    "--mark ! /0x10",
    "-p IPv6 -j mark --mark-and 0x6 --mark-target CONTINUE",
    "--mark 0x6",
    "-j mark --mark-xor 0x7 --mark-target CONTINUE",
    "--mark 0x1/0x7",
    "--mark 0x7",
)  # fmt: skip


@dataclass(frozen=True)
class Frame:
    """A frame on the wire, and the packet that it is to the walk."""

    wire: bytes
    packet: Packet
    src: str = NEAR
    dst: str = FAR


def _question(sender: str, wanted: str, mac: str = NEAR) -> Frame:
    wire = Ether(src=mac, dst=ALL_BITS) / ARP(hwsrc=mac, psrc=sender, pdst=wanted)
    packet = arp.question(ip_address(sender), ip_address(wanted), mac).packet
    return Frame(bytes(wire), packet, mac, ALL_BITS)


def _answer(asked: str, asker: str) -> Frame:
    """To one that has never been heard of here: the bridge knows where NEAR is."""
    wire = Ether(src=NEAR, dst=FAR) / ARP(op=2, hwsrc=NEAR, psrc=asked, hwdst=FAR, pdst=asker)
    question = arp.question(ip_address(asker), ip_address(asked), FAR)
    return Frame(bytes(wire), arp.answer(question, NEAR).packet)


def _ip(src: str, dst: str, layer, *, mac: str = NEAR, **fields: object) -> Frame:
    version = IPv6 if ":" in src else IP
    wire = Ether(src=mac, dst=FAR) / version(src=src, dst=dst) / layer
    packet = Packet(src=ip_address(src), dst=ip_address(dst), **fields)
    return Frame(bytes(wire), packet, mac)


def _tcp(src: str, dst: str, dport: int) -> Frame:
    fields = {"proto": "tcp", "sport": 4000, "dport": dport, "tcp_flags": frozenset({"syn"})}
    return _ip(src, dst, TCP(sport=4000, dport=dport), **fields)


def _udp(src: str, dst: str, sport: int, mac: str = NEAR) -> Frame:
    fields = {"proto": "udp", "sport": sport, "dport": 53}
    return _ip(src, dst, UDP(sport=sport, dport=53), mac=mac, **fields)


PING = {"icmp_type": 8, "icmp_code": 0, "icmp_id": 7, "proto": "icmp"}
FRAMES = {
    "question": _question("192.0.2.2", "192.0.2.3"),
    "question of another": _question("192.0.2.77", "198.51.100.1", OTHER),
    "answer": _answer("192.0.2.2", "192.0.2.3"),
    "ping": _ip("192.0.2.2", "192.0.2.3", ICMP(id=7), **PING),
    "web": _tcp("192.0.2.2", "192.0.2.9", 80),
    "dns": _udp("192.0.2.2", "192.0.2.3", 4000),
    "dns of another": _udp("198.51.100.2", "192.0.2.3", 5353, OTHER),
    "ping6": _ip("2001:db8::2", "2001:db8::ff42", ICMPv6EchoRequest(id=7),
                 **PING | {"proto": "icmpv6", "icmp_type": 128}),
    "web6": _tcp("2001:db8::2", "2001:db8::3", 80),
    "other6": _tcp("2001:db8:1::2", "2001:db8::3", 81),
    "dns6": _udp("2001:db8::2", "2001:db8::3", 4500),
}  # fmt: skip


@pytest.fixture(scope="module")
def bridge(shared_namespaces):
    """A bridge with ports v0 and v1 between two machines that say nothing, and the rules."""
    one, host, other = (shared_namespaces(name) for name in ("one", "host", "other"))
    one.cable("e0", host, "v0")
    other.cable("e0", host, "v1")
    for machine in (one, host, other):
        machine.sysctl("net.ipv6.conf.all.disable_ipv6", 1)
    one.ip("link set e0 arp off up")
    other.ip("link set e0 arp off up")
    host.ip("link add br0 type bridge", "link set br0 up",
            *(f"link set {v} master br0 up" for v in ("v0", "v1")))  # fmt: skip
    for rule in RULES:
        target = "" if "-j" in rule else " -j CONTINUE"
        host.run(f"ebtables-nft -A FORWARD {rule}{target}")
    return one, host, other


def _counted(host):
    with entered(host.path):
        tables, gaps = read_tables("host")
    assert not gaps
    (table,) = tables
    return [rule.packets for rule in table.chain("FORWARD").rules]


@pytest.fixture(scope="module")
def view(bridge):
    """The host as the walk sees it."""
    with entered(bridge[1].path):
        return StackView(read_stack("host", "host", bridge[1].path).stack)


@pytest.fixture(scope="module")
def wires(bridge):
    """Raw sockets on both sides, once the bridge forwards."""
    opened = []
    for machine in (bridge[0], bridge[2]):
        with entered(machine.path):
            side = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        side.bind(("e0", 3))
        side.settimeout(0.1)
        opened.append(side)
    near, far = opened
    probe = FRAMES["dns"].wire
    assert any(_crossed(near, far, probe) for _ in range(100)), "the bridge does not forward"
    for side in opened:
        side.settimeout(5)
    yield near, far
    for side in opened:
        side.close()


def _crossed(near, far, wire):
    near.send(wire)
    try:
        while far.recv(2048)[: len(wire)] != wire:
            pass
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("name", FRAMES)
def test_what_a_frame_matches(bridge, view, wires, name):
    """The rules that the kernel counts it for are those that the walk finds."""
    host, frame = bridge[1], FRAMES[name]
    before = _counted(host)
    assert _crossed(*wires, frame.wire)
    after = _counted(host)
    counts = zip(RULES, before, after, strict=True)
    assert _walked(view, frame) == [rule for rule, was, now in counts if now > was]


def _walked(view, frame):
    at = Context(
        view=view,
        hook="forward",
        family="bridge",
        packet=frame.packet,
        in_link="v0",
        out_link="v1",
        src_mac=frame.src,
        dst_mac=frame.dst,
    )
    result = run_hook(at, Conntrack(), UNTRACKED)
    assert result.kind == "accept"
    return [RULES[ref.index] for ref in result.matched]
