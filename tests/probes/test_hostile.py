"""A hostile machine on the way: it answers for others, without end, or with giants."""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

import msgspec
import pytest

from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Address
from kvmdiag.probes.capture import MOST_OF_A_LINK
from kvmdiag.probes.fuse import fuse
from kvmdiag.probes.packet import Probe, build_packet, dissect
from kvmdiag.probes.scapy_quiet import layers
from kvmdiag.probes.trace import observe

THERE = "a/a0> >r/r0 r/br0 r/rb> >b/b0"
BACK = "b/b0> >r/rb r/br0> r/r0> >a/a0"

# Answers each echo request it sees on its wire with forged replies until it is ended.
_FLOODER = """
import socket, sys
kind, seconds = sys.argv[1], 20
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
wire.bind(("b0", 0x0800))
while True:
    frame = wire.recv(4096)
    if len(frame) > 42 and frame[23] == 1 and frame[34] == 8:
        break
head = frame[6:12] + frame[0:6] + frame[12:14]
def reply(mark, size=None):
    icmp = b"\\x00\\x00\\x00\\x00" + frame[38:42] + mark + frame[50:]
    icmp += bytes((size or 0) - len(icmp)) if size else b""
    total = 0
    for at in range(0, len(icmp) - 1, 2):
        total += int.from_bytes(icmp[at:at + 2], "big")
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    icmp = icmp[:2] + (~total & 0xFFFF).to_bytes(2, "big") + icmp[4:]
    length = (20 + len(icmp)).to_bytes(2, "big")
    ip = frame[14:16] + length + b"\\0\\0\\0\\0\\x40\\x01\\0\\0" + frame[30:34] + frame[26:30]
    total = sum(int.from_bytes(ip[at:at + 2], "big") for at in range(0, 20, 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return head + ip[:10] + (~total & 0xFFFF).to_bytes(2, "big") + ip[12:] + icmp
mark = frame[42:50]
if kind == "forged":
    answer = reply(bytes(8))            # the right numbers, another mark
elif kind == "giant":
    answer = reply(mark, 1480)
else:
    answer = reply(mark)
while True:
    wire.send(answer)
"""


@pytest.mark.parametrize("kind", ["endless", "giant", "forged"])
def test_a_flood_of_answers(
    routed: Any, asking: Any, walking: Any, eventually: Any, kind: str
) -> None:
    """The trace ends in its time and in little memory; forged marks are no answer."""
    b = routed["b"]
    b.sysctl("net.ipv4.icmp_echo_ignore_all", 1)
    b.start([sys.executable, "-c", _FLOODER, kind])
    eventually(lambda: b.run("cat /proc/net/packet").stdout.count("\n") > 1, "it never listened")
    predicted = walking(asking("198.51.100.2"), THERE, BACK)
    layers()  # loading scapy is not what is measured
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.monotonic()
    seen = observe(routed.snapshot(), predicted, timeout=1)
    lasted = time.monotonic() - begin
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert lasted < 6
    assert grown < 60 << 10  # KiB
    assert seen.reached == (kind != "forged")
    assert len(seen.sightings) < 20 * MOST_OF_A_LINK
    fused = fuse(predicted, seen)
    assert fused.works is (kind != "forged")
    assert [str(s.place) for s in seen.travelling("request")] == [
        "a/a0", "r/r0", "r/br0", "r/rb", "b/b0",
    ]  # fmt: skip


def with_addresses(net: Any) -> Snapshot:
    """The snapshot with what tells whose the destination is."""
    snapshot = net.snapshot()
    for name, entry in (("b", "198.51.100.2"), ("r", "198.51.100.1"), ("a", "192.0.2.2")):
        address = Address(link="x", address=entry, prefix_length=24)
        stack = msgspec.structs.replace(snapshot.stack(name), addresses=(address,))
        snapshot = snapshot.with_stack(stack)
    return snapshot


def test_who_answers_for_another_is_doubted(routed: Any, asking: Any, walking: Any) -> None:
    """The router redirects to itself what was meant for b: an answer, and not b's."""
    predicted = walking(asking("198.51.100.2"), THERE, BACK)
    assert observe(with_addresses(routed), predicted, timeout=1).doubt is None
    routed["r"].run("iptables -t nat -A PREROUTING -d 198.51.100.2 -j REDIRECT")
    seen = observe(with_addresses(routed), predicted, timeout=1)
    assert seen.reached
    assert seen.doubt is not None
    assert "r/br0" in seen.doubt
    assert "answered for it" in seen.doubt


def test_an_answer_of_a_kind_that_is_none() -> None:
    """The mark alone does not make an answer: type, protocol and place must be right."""
    probe = Probe(proto="icmp", version=4, mark=b"ABCDEFGH", ident=7, number=9)
    good = build_packet(probe, "192.0.2.1", "192.0.2.2")
    for at, byte in ((20, 13), (9, 17), (0, 0x4F), (0, 0x65)):
        forged = good[:at] + bytes((byte,)) + good[at + 1 :]
        found = dissect(forged, probe)
        assert found is None or found.direction != "reply"
