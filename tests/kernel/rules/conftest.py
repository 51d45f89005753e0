"""A router between two machines, with rules in it; packets are sent through one at a time.

What the kernel counted for each rule is what it thinks of the packet; what the walk's hooks
say the packet matched (see ``predicted``) must be the same.
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
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

import pytest

from kvmdiag.collect.netfilter.tables import read_tables
from kvmdiag.collect.stack import read_stack
from kvmdiag.model.netfilter import Table
from kvmdiag.model.packet import IPAddress
from kvmdiag.simulate.facts.stack_view import StackView
from kvmdiag.system.namespaces import entered
from kvmdiag.system.programs import run

from .sent import Sent, frame_of

_numbers = itertools.count(1)

_ETH_P_ALL = 3
SENTINEL = "add table inet sentinel; add chain inet sentinel last " + (
    "{ type filter hook postrouting priority 1000 ; } ; add rule inet sentinel last counter"
)


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

    def iptables(self, *lines: str, program: str = "iptables-nft") -> None:
        """These lines of iptables-save in the place of all rules, without the last COMMIT."""
        self.clear()
        self.load(f"{program}-restore", text="\n".join((*lines, "COMMIT", "")))

    def nft(self, *commands: str) -> None:
        """What these commands of nft make in the place of all rules."""
        self.clear()
        for command in commands:
            self.load("nft", command)

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
        self.sockets[side].send(frame_of(sent.packet, self.macs[side], self.macs[f"{side} router"]))

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
