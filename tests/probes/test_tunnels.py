"""A probe in a VXLAN tunnel: what carries it is looked into on a real network of two hosts."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmdiag.collect.scope import Scope
from kvmdiag.collect.snapshot import collect
from kvmdiag.model.packet import Packet
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.trace import Hop, Outcome, Reason, Stage, Trace, Walk
from kvmdiag.probes import bpf
from kvmdiag.probes.capture import Capture
from kvmdiag.probes.datagram import MOST_TUNNELS, carried
from kvmdiag.probes.disagreement import disagreement
from kvmdiag.probes.evidence.signature import recognise
from kvmdiag.probes.marks import marked
from kvmdiag.probes.mtu import MOST_AT_ONCE
from kvmdiag.probes.observation import Observation
from kvmdiag.probes.packet import build_packet, new_probe
from kvmdiag.probes.trace import fuse, observe
from kvmdiag.simulate.endpoints import resolve
from kvmdiag.simulate.walk import walk
from kvmdiag.system.namespaces import entered

from .conftest import Net, question

PORT = 4789
BPF_MAXINSNS = 4096
OUTER = {4: ("192.0.2.1", "192.0.2.2"), 6: ("2001:db8::1", "2001:db8::2")}
PREFIX = {4: "/30", 6: "/64 nodad"}
OUTSIDE = {("host", "up0"), ("other", "up0")}


@pytest.fixture(scope="module", params=[4, 6], ids=["over IPv4", "over IPv6"])
def outer(request: pytest.FixtureRequest) -> int:
    """The version of IP between the hosts."""
    return int(request.param)


@pytest.fixture(scope="module")
def hosts(shared_namespaces: Callable[..., Any], outer: int) -> Net:
    """``g1`` (10.0.0.2) on ``host``, ``g2`` (10.0.0.3) on ``other``; a tunnel over ``up0``."""
    net = Net({name: shared_namespaces(name) for name in ("host", "other", "g1", "g2")})
    net["host"].cable("up0", net["other"], "up0")
    ends = OUTER[outer]
    for number, (machine, guest) in enumerate((("host", "g1"), ("other", "g2"))):
        mine, peer = ends[number], ends[1 - number]
        net[guest].cable("eth0", net[machine], "v0")
        net[machine].sysctl("net.ipv6.conf.default.accept_dad", 0)
        net[machine].ip(
            "link set lo up",
            f"addr add {mine}{PREFIX[outer]} dev up0",
            "link set up0 up",
            "link add br0 type bridge mcast_snooping 0 forward_delay 0",
            "link set br0 up",
            f"link add vx0 type vxlan id 5 dstport {PORT} local {mine} remote {peer}",
            "link set vx0 master br0 up",
            "link set v0 master br0 up",
        )
        net[guest].sysctl("net.ipv6.conf.default.accept_dad", 0)
        net[guest].ip(
            "link set lo up",
            "link set eth0 mtu 1400 up",
            f"addr add 10.0.0.{number + 2}/24 dev eth0",
            f"addr add fd00::{number + 2}/64 dev eth0 nodad",
        )
    return net


@pytest.fixture
def ready(hosts: Net, eventually: Callable[..., None]) -> Net:
    """The same once a ping gets through, which also fills the neighbour tables."""
    pinged = ["ping -c1 -W1 10.0.0.3", "ping -c1 -W1 fd00::3"]
    eventually(
        lambda: not any(hosts["g1"].run(ping, check=False).returncode for ping in pinged),
        "the tunnel never worked",
        seconds=20,
    )
    return hosts


def facts(net: Net, *names: str) -> Snapshot:
    """All that can be read of these stacks, or of all."""
    known = names or tuple(net.members)
    return collect(
        Scope(
            host=net["host"].path,
            include=tuple(net[name].name for name in known),
            exclude=tuple(net[name].name for name in net.members if name not in known),
            names={net[name].path: name for name in known},
            libvirt=False,
        )
    )


def traced(snapshot: Snapshot, address: str, **more: Any) -> tuple[Walk, Walk, Observation]:
    """Prediction, prediction and observation in one, observation."""
    version = 6 if ":" in address else 4
    predicted = walk(snapshot, resolve(snapshot, "g1", address, version=version, **more))
    seen = observe(snapshot, predicted, timeout=3)
    return predicted, fuse(predicted, seen), seen


@pytest.mark.parametrize(
    "asked",
    [
        {"address": "10.0.0.3"},
        {"address": "fd00::3"},
        {"address": "10.0.0.3", "proto": "tcp", "port": 9},
        {"address": "fd00::3", "proto": "udp", "port": 9},
    ],
    ids=["ping", "ping of IPv6", "TCP", "UDP of IPv6"],
)
def test_what_carries_the_probe_is_seen(ready: Net, asked: dict[str, Any]) -> None:
    """At each link, in and out, with the addresses it bears there; nothing is left unseen."""
    predicted, fused, _ = traced(facts(ready), **asked)
    carrying = [
        hop
        for hop in fused.request.hops
        if hop.tunnels and hop.stage in (Stage.EGRESS, Stage.INGRESS)
    ]
    assert {(hop.stack, hop.link) for hop in carrying} == OUTSIDE
    assert all(hop.seen and hop.packet.dport == PORT for hop in carrying)
    assert not [hop for hop in fused.request.hops if hop.seen is False]
    assert disagreement(predicted, fused) is None


def test_a_far_end_out_of_sight(ready: Net) -> None:
    """It was seen to leave, so that an answer from there is nobody else's."""
    _, fused, seen = traced(facts(ready, "host", "g1"), "10.0.0.3")
    assert (seen.reached, seen.doubt) == (True, None)
    assert fused.request.outcome is Outcome.LEFT
    assert not [hop for hop in fused.hops if hop.seen is False]
    assert [hop.decision for hop in fused.hops if not hop.predicted] == ["seen, wrapped"]


def test_lost_in_the_tunnel(ready: Net) -> None:
    """It is seen as far as it comes; rule and reason are told of the packet that carries it."""
    ready["other"].run("nft -f -", input=_DROPPED)
    try:
        predicted, fused, seen = traced(facts(ready), "10.0.0.3")
    finally:
        ready["other"].run("nft delete table inet t")
    assert seen.evidence is not None
    assert seen.evidence.unavailable == ()
    (verdict,) = [one for one in seen.evidence.verdicts if one.stops]
    assert (verdict.rule.stack, verdict.rule.table, verdict.in_link) == ("other", "t", "up0")
    assert fused.request.end.kernel_reason == "NETFILTER_DROP at nft_do_chain on up0"
    assert (fused.request.outcome, fused.request.reason) == (Outcome.DROPPED, Reason.NETFILTER)
    assert [str(one.place) for one in seen.travelling("request")][-1] == "other/up0"
    assert disagreement(predicted, fused) is None


_DROPPED = f"""
table inet t {{
    chain c {{
        type filter hook input priority 0
        udp dport {PORT} drop
    }}
}}
"""


def test_a_frame_with_a_tag(hosts: Net, outer: int) -> None:
    """What a bridge with VLANs sends into a tunnel is looked into as well."""
    probe = msgspec.structs.replace(new_probe(question("10.0.0.3")), tunnels=(PORT,))
    inner = b"\x02" * 12 + b"\x81\x00\x00\x07\x08\x00" + build_packet(probe, "10.0.0.2", "10.0.0.3")
    stack = hosts.snapshot("host").stack("host")
    family = socket.AF_INET if outer == 4 else socket.AF_INET6
    with entered(hosts["host"].path):
        sender = socket.socket(family, socket.SOCK_DGRAM)
    with sender, Capture(stack, bpf.program([probe])) as capture:
        sender.sendto(struct.pack(">II", 0x08 << 24, 9 << 8) + inner, (OUTER[outer][1], PORT))
        capture.drain()
        (seen,) = capture.sightings(probe)
    assert (seen.link, seen.direction, seen.tunnels) == ("up0", "request", 1)
    assert (str(seen.own.dst), seen.packet.dport) == ("10.0.0.3", PORT)


def _hop(tunnels: int, port: int) -> Hop:
    nobody = ip_address("0.0.0.0")
    return Hop(
        direction="request",
        stack="host",
        link="up0",
        stage=Stage.EGRESS,
        packet=Packet(src=nobody, dst=nobody, proto="udp", dport=port),
        decision="sent",
        tunnels=tunnels,
    )


@pytest.mark.parametrize(
    ("tunnels", "port", "insiders", "looked_for"),
    [
        (1, PORT, (), True),
        (2, PORT, (), False),  # a tunnel in a tunnel
        (1, 8472, (), False),  # nobody knew of that port
        (1, PORT, ("host",), False),  # a guest's own tcpdump looks for the bare probe
    ],
)
def test_not_seen_only_where_somebody_looked(
    tunnels: int, port: int, insiders: tuple[str, ...], looked_for: bool
) -> None:
    """A hop that nobody could see is neither seen nor not seen."""
    probe = msgspec.structs.replace(new_probe(question("10.0.0.3")), tunnels=(PORT,))
    seen = Observation(
        probe=probe,
        sent_ns=0,
        waited=1,
        sightings=(),
        watched=frozenset({"host"}),
        insiders=insiders,
    )
    hops = (_hop(tunnels, port), _hop(tunnels, port))
    trace = Trace(direction="request", outcome=Outcome.LEFT, reason=Reason.LEFT, hops=hops)
    assert {hop.seen for hop in marked(trace, seen).hops} == {False if looked_for else None}


@given(data=st.binary(max_size=120))
def test_whatever_comes_to_the_port(data: bytes) -> None:
    """Bytes of others do no harm, and what is carried is never longer than what carries it."""
    found = carried(b"\x45" + data, range(1 << 16))
    assert found is None or len(found.inner) < len(data)


@pytest.mark.parametrize("version", ["10.0.0.3", "2001:db8::3"])
def test_the_filter_fits_into_the_kernel(version: str) -> None:
    """As many sizes as are sent at once, in as many tunnels as are looked into."""
    probe = msgspec.structs.replace(new_probe(question(version)), tunnels=(*range(MOST_TUNNELS),))
    assert len(bpf.program([probe] * MOST_AT_ONCE)) // 8 <= BPF_MAXINSNS


def test_the_log_of_legacy_tables_is_looked_into() -> None:
    """NFLOG gives the packet from its IP header on, with as much as is copied of it."""
    probe = msgspec.structs.replace(new_probe(question("10.0.0.3")), tunnels=(PORT,))
    frame = b"\x02" * 12 + b"\x08\x00" + build_packet(probe, "10.0.0.2", "10.0.0.3")
    datagram = struct.pack(">HHHHII", 50000, PORT, 0, 0, 0x08 << 24, 5 << 8) + frame
    header = b"\x45" + bytes(8) + b"\x11" + bytes(10)
    assert recognise((header + datagram)[:128], [probe]) == (0, "request")
    assert recognise(header + datagram.replace(probe.mark, bytes(8)), [probe]) is None
    other = struct.pack(">HH", 50000, PORT + 1) + datagram[4:]
    assert recognise(header + other, [probe]) is None


@pytest.mark.parametrize("address", ["10.0.0.3", "2001:db8::3"])
def test_the_filter_of_a_datagram_fits_too(address: str) -> None:
    """With all that may answer: its jumps reach no further than a byte tells."""
    asked = question(address, proto="udp", port=53)
    probe = msgspec.structs.replace(new_probe(asked), tunnels=(*range(MOST_TUNNELS),))
    answerers = [ip_address(address) + number for number in range(20)]
    assert 0 < len(bpf.program([probe], answerers)) // 8 <= BPF_MAXINSNS
