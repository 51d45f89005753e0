"""A router between two machines, with rules in it; packets are sent through one at a time.

What the kernel counted for each rule is what it thinks of the packet; what the walk's hooks
say the packet matched must be the same.
"""

from __future__ import annotations

import itertools
import os
import select
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from msgspec.structs import replace as with_fields

from kvmdiag.collect.netfilter import read_tables
from kvmdiag.collect.stack import read_stack
from kvmdiag.model.netfilter import Table
from kvmdiag.model.packet import IPAddress, Packet
from kvmdiag.simulate.conntrack import Conntrack
from kvmdiag.simulate.context import Context
from kvmdiag.simulate.hook import run_hook
from kvmdiag.simulate.stack_view import StackView
from kvmdiag.system.namespaces import entered
from kvmdiag.system.programs import run

_numbers = itertools.count(1)
_ids = itertools.count(0x4100)

_ETH_P_ALL = 3
SENTINEL = "add table inet sentinel; add chain inet sentinel last " + (
    "{ type filter hook postrouting priority 1000 ; } ; add rule inet sentinel last counter"
)


@dataclass(frozen=True)
class Sent:
    """A packet from near to far, or back; ``after`` is one of its connection sent before."""

    packet: Packet
    back: bool = False
    after: Sent | None = None


def udp(dport: int = 7000, *, src: str = "10.1.0.2", dst: str = "10.2.0.2", **more: object) -> Sent:
    """A datagram, by default from near to far."""
    return Sent(
        Packet(
            src=ip_address(src), dst=ip_address(dst), proto="udp", sport=4000, dport=dport, **more
        )
    )


def tcp(dport: int = 80, *flags: str, **more: object) -> Sent:
    """A segment, by default a SYN."""
    sent = udp(dport, **more)
    packet = with_fields(sent.packet, proto="tcp", tcp_flags=frozenset(flags or ("syn",)))
    return replace(sent, packet=packet)


def icmp(kind: int = 8, code: int = 0, **more: object) -> Sent:
    """An ICMP message, by default an echo request."""
    sent = udp(**more)
    packet = with_fields(
        sent.packet,
        proto="icmp",
        sport=None,
        dport=None,
        icmp_type=kind,
        icmp_code=code,
        icmp_id=7,
    )
    return replace(sent, packet=packet)


def answer(sent: Sent) -> Sent:
    """What comes back on the same connection."""
    packet = sent.packet
    back = with_fields(
        packet, src=packet.dst, dst=packet.src, sport=packet.dport, dport=packet.sport
    )
    if packet.proto == "tcp":
        back = with_fields(back, tcp_flags=frozenset({"syn", "ack"}))
    if packet.proto == "icmp":
        back = with_fields(back, icmp_type=0)
    return Sent(back, back=True, after=sent)


def error(sent: Sent, kind: int = 3, code: int = 1, src: str = "10.2.0.2") -> Sent:
    """The ICMP error that a machine behind the router sends about a packet as it arrived."""
    packet = with_fields(
        icmp(kind, code).packet, src=ip_address(src), dst=sent.packet.src, icmp_id=None, length=56
    )
    return Sent(with_fields(packet, about=sent.packet), back=True, after=sent.after)


@dataclass
class Bench:
    """The three namespaces, and the raw sockets of the two machines."""

    near: str
    router: str
    far: str
    macs: dict[str, str] = field(default_factory=dict)
    sockets: dict[str, socket.socket] = field(default_factory=dict)

    def load(self, *argv: str, text: str | None = None) -> None:
        """Run a program in the router; it must succeed."""
        with entered(f"/run/netns/{self.router}"):
            done = run(argv, input=text)
        assert done.returncode == 0, f"{argv}: {done.stderr}"

    def clear(self) -> None:
        """No rules and no connections."""
        self.load("nft", "flush ruleset")
        self.load("nft", SENTINEL)
        self.forget()

    def forget(self) -> None:
        """Flush the connections."""
        self.load("conntrack", "-F")

    def tables(self) -> tuple[Table, ...]:
        """What the collector reads of the router."""
        with entered(f"/run/netns/{self.router}"):
            tables, gaps = read_tables("router")
        assert tables is not None, gaps
        assert not gaps
        return tables

    def view(self) -> StackView:
        """The router as the walk sees it."""
        path = f"/run/netns/{self.router}"
        with entered(path):
            return StackView(read_stack("router", "host", path).stack)

    def send(self, sent: Sent) -> None:
        """Put a packet on the wire towards the router."""
        side = "far" if sent.back else "near"
        self.sockets[side].send(_frame(sent.packet, self.macs[side], self.macs[f"{side} router"]))

    def counts(self) -> dict[tuple[str, str, str], int]:
        """Packets counted for each rule by family, table and text; equal texts together."""
        found: dict[tuple[str, str, str], int] = {}
        for table in self.tables():
            for chain in table.chains:
                for rule in chain.rules:
                    key = (table.family, table.name, rule.text)
                    found[key] = found.get(key, 0) + (rule.packets or 0)
        return found

    def kernel(self, sent: Sent) -> set[str]:
        """Texts of the rules that the kernel says the packet matched."""
        self.forget()
        if sent.after is not None:
            self.send(sent.after)
            self._settled(self.counts())
        before = self.counts()
        self.send(sent)
        after = self._settled(before)
        return {
            key[2]
            for key, count in after.items()
            if count > before.get(key, 0) and key[1] != "sentinel"
        }

    def arrived(self, sent: Sent, *, forget: bool = True, patience: float = 5) -> Ends | None:
        """Addresses and ports with which the packet arrives on the other side, in so many seconds.

        What is expected arrives at once; be patient only with a machine under load.
        """
        if forget:
            self.forget()
        other = self.sockets["near" if sent.back else "far"]
        _drain(other)
        self.send(sent)
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if select.select([other], [], [], 0.05)[0]:
                ends = _ends(other.recv(2048), sent.packet.proto)
                if ends is not None:
                    return ends
        return None

    def _settled(self, before: dict[tuple[str, str, str], int]) -> dict[tuple[str, str, str], int]:
        """The counts when the packet has passed all, or nothing moves any more."""
        last = ("inet", "sentinel", "counter")
        end = time.monotonic() + 1
        while True:
            counts = self.counts()
            if counts[last] > before[last] or time.monotonic() > end:
                return counts


Ends = tuple[IPAddress, int | None, IPAddress, int | None]
"""Source and destination, each with its port."""


def translated(bench: Bench, sent: Sent, view: StackView | None = None) -> Ends | None:
    """Addresses and ports with which the packet leaves the router, as the walk's hooks say."""
    view = view or bench.view()
    conntrack = Conntrack(view.flows)
    if sent.after is not None:
        _hooks(bench, view, conntrack, sent.after)
    packet = _passed(bench, view, conntrack, sent)[1]
    return None if packet is None else (packet.src, packet.sport, packet.dst, packet.dport)


def _drain(opened: socket.socket) -> None:
    while select.select([opened], [], [], 0)[0]:
        opened.recv(2048)


def _ends(frame: bytes, proto: str) -> Ends | None:
    """What an Ethernet frame says, if it is an IP packet of the protocol."""
    number = {"icmp": 1, "tcp": 6, "udp": 17}[proto]
    if frame[12:14] == b"\x86\xdd" and frame[20] == number:
        sport, dport = struct.unpack_from("!HH", frame, 54)
        return IPv6Address(frame[22:38]), sport, IPv6Address(frame[38:54]), dport
    if frame[12:14] != b"\x08\x00" or frame[23] != number:
        return None
    src, dst = IPv4Address(frame[26:30]), IPv4Address(frame[30:34])
    if proto == "icmp":
        return src, None, dst, None
    sport, dport = struct.unpack_from("!HH", frame, 34)
    return src, sport, dst, dport


def walked(bench: Bench, view: StackView, sent: Sent) -> set[str]:
    """Texts of the rules that the walk's hooks say the packet matched."""
    conntrack = Conntrack()
    if sent.after is not None:
        _hooks(bench, view, conntrack, sent.after)
    return _hooks(bench, view, conntrack, sent)


def _hooks(bench: Bench, view: StackView, conntrack: Conntrack, sent: Sent) -> set[str]:
    return _passed(bench, view, conntrack, sent)[0]


def _passed(
    bench: Bench, view: StackView, conntrack: Conntrack, sent: Sent
) -> tuple[set[str], Packet | None]:
    """The rules a packet matched, and how it left, ``None`` if it did not."""
    side = "far" if sent.back else "near"
    packet, tracked = sent.packet, None
    incoming, outgoing = ("o0", "i0") if sent.back else ("i0", "o0")
    links = {
        "prerouting": (incoming, None),
        "forward": (incoming, outgoing),
        "postrouting": (None, outgoing),
    }
    matched: set[str] = set()
    for hook, (in_link, out_link) in links.items():
        if hook == "forward":
            packet = with_fields(packet, ttl=packet.ttl - 1)
        at = Context(
            view=view,
            hook=hook,
            family=packet.family,
            packet=packet,
            in_link=in_link,
            out_link=out_link,
            src_mac=bench.macs[side],
            dst_mac=bench.macs[f"{side} router"],
        )
        result = run_hook(at, conntrack, tracked)
        matched |= {ref.text for ref in result.matched if ref.table != "sentinel"}
        if result.kind != "accept":
            return matched, None
        packet, tracked = result.packet, result.tracked
    return matched, packet


def _frame(packet: Packet, src_mac: str, dst_mac: str) -> bytes:
    from scapy.layers.inet import ICMP, IP, TCP, UDP
    from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
    from scapy.layers.l2 import Ether
    from scapy.packet import Raw

    if packet.version == 4:
        flags = "DF" if packet.dont_fragment else 0
        ip = IP(
            src=str(packet.src), dst=str(packet.dst), ttl=packet.ttl, flags=flags, id=next(_ids)
        )
    else:
        ip = IPv6(src=str(packet.src), dst=str(packet.dst), hlim=packet.ttl)
    if packet.about is not None:
        inner = _frame(packet.about, src_mac, dst_mac)[14:42]
        layer = ICMP(type=packet.icmp_type, code=packet.icmp_code) / Raw(inner)
    elif packet.proto == "icmp":
        layer = ICMP(type=packet.icmp_type, code=packet.icmp_code, id=packet.icmp_id)
    elif packet.proto == "icmpv6":
        layer = ICMPv6EchoRequest(id=packet.icmp_id)
    elif packet.proto == "tcp":
        letters = "".join(flag[0].upper() for flag in packet.tcp_flags)
        layer = TCP(sport=packet.sport, dport=packet.dport, flags=letters)
    else:
        layer = UDP(sport=packet.sport, dport=packet.dport)
    missing = packet.length - len(bytes(ip / layer))
    return bytes(Ether(src=src_mac, dst=dst_mac) / ip / layer / Raw(b"x" * max(0, missing)))


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """The router ``i0`` 10.1.0.1, ``o0`` 10.2.0.1 and its two neighbours."""
    names = {
        label: f"kvmdiag-rules-{os.getpid()}-{next(_numbers)}-{label}"
        for label in ("near", "router", "far")
    }
    made = Bench(**names)
    try:
        for name in names.values():
            _ip("netns", "add", name)
        _build(made)
        yield made
    finally:
        for opened in made.sockets.values():
            opened.close()
        for name in names.values():
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


# The machines say nothing of their own: raw sockets go past these.
_SILENCE = """\
add table inet silent
add chain inet silent in { type filter hook prerouting priority -400 ; policy drop ; }
add chain inet silent out { type filter hook output priority -400 ; policy drop ; }
"""


def _build(bench: Bench) -> None:
    for side, link, net in (("near", "i0", 1), ("far", "o0", 2)):
        name = getattr(bench, side)
        bench.macs[side] = f"02:00:00:00:0{net}:02"
        bench.macs[f"{side} router"] = f"02:00:00:00:0{net}:01"
        _ip("link", "add", link, "netns", bench.router, "address", bench.macs[f"{side} router"],
            "type", "veth", "peer", "name", "e0", "netns", name,
            "address", bench.macs[side])  # fmt: skip
        for where, dev, host in ((bench.router, link, 1), (name, "e0", 2)):
            _ip("-n", where, "addr", "add", f"10.{net}.0.{host}/24", "dev", dev)
            _ip("-n", where, "addr", "add", f"fd00:{net}::{host}/64", "dev", dev, "nodad")
            _ip("-n", where, "link", "set", dev, "up")
        for last in (2, 3, 9):
            neighbour = ("lladdr", bench.macs[side], "dev", link)
            _ip("-n", bench.router, "neigh", "replace", f"10.{net}.0.{last}", *neighbour)
            _ip("-n", bench.router, "neigh", "replace", f"fd00:{net}::{last}", *neighbour)
        with entered(f"/run/netns/{name}"):
            assert run(["nft", "-f", "-"], input=_SILENCE).returncode == 0
            raw = bench.sockets[side] = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        raw.bind(("e0", _ETH_P_ALL))
    for name in ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"):
        bench.load("sysctl", "-qw", name)
    for name in ("all", "i0", "o0"):
        bench.load("sysctl", "-qw", f"net.ipv4.conf.{name}.rp_filter=0")


def _ip(*argv: str) -> None:
    subprocess.run(["ip", *argv], check=True, capture_output=True)
