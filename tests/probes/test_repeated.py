"""Several probes: the path's MTU, loss and latency by segment, and the capture file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scapy.utils import PcapNgReader

from kvmdiag.probes.fuse import fuse
from kvmdiag.probes.mtu import path_mtu
from kvmdiag.probes.packet import new_probe
from kvmdiag.probes.pcap import pcapng
from kvmdiag.probes.series import series
from kvmdiag.probes.trace import observe, observe_all

THERE = "a/a0> >r/r0 r/br0 r/rb> >b/b0"
BACK = "b/b0> >r/rb r/br0> r/r0> >a/a0"


def test_several_probes_at_once_keep_apart(routed: Any, asking: Any, walking: Any) -> None:
    """Each has its own mark, and its own answer and sightings."""
    predicted = walking(asking("198.51.100.2"), THERE, BACK)
    probes = [new_probe(predicted.question, size=size) for size in (84, 500, 1500)]
    seen = observe_all(routed.snapshot(), predicted, probes, timeout=2)
    assert [one.reached for one in seen] == [True] * 3
    sizes = [{s.packet.length for s in one.sightings} for one in seen]
    assert sizes == [{84}, {500}, {1500}]
    assert len({one.probe.mark for one in seen}) == 3


@pytest.mark.parametrize("told", [True, False], ids=["told", "silently"])
@pytest.mark.parametrize("destination", ["198.51.100.2", "2001:db8:2::2"])
def test_the_largest_packet_and_what_limits_it(
    routed: Any, asking: Any, walking: Any, destination: str, told: bool
) -> None:
    """Found to the byte, whether a router says so or packets just vanish."""
    r = routed["r"]
    r.ip("link set rb mtu 1377")
    if not told:
        for program, kind in (("iptables", "icmp"), ("ip6tables", "icmpv6")):
            name = "fragmentation-needed" if kind == "icmp" else "packet-too-big"
            flag = "--icmp-type" if kind == "icmp" else "--icmpv6-type"
            r.run(f"{program} -A OUTPUT -p {kind} {flag} {name} -j DROP")
    found = path_mtu(routed.snapshot(), walking(asking(destination), THERE, BACK), timeout=1)
    assert (found.largest, found.lost) == (1377, 1378)
    assert str(found.limit) == "r/rb"
    assert found.travel == "request"
    assert (found.told is not None) == told


def test_nothing_limits_it(routed: Any, asking: Any, walking: Any) -> None:
    """What the source's own link takes gets through."""
    found = path_mtu(routed.snapshot(), walking(asking("198.51.100.2"), THERE, BACK), timeout=1)
    assert (found.largest, found.lost, found.ceiling) == (1500, None, 1500)


def test_loss_is_counted_between_the_hops_where_it_happens(
    routed: Any, asking: Any, walking: Any
) -> None:
    """Two probes of three get through; the third is lost behind br0."""
    predicted = walking(asking("198.51.100.2"), THERE, BACK)
    seen = [observe(routed.snapshot(), predicted, timeout=1) for _ in range(2)]
    routed["r"].run("iptables -A FORWARD -o rb -j DROP")
    seen.append(observe(routed.snapshot(), predicted, timeout=1))
    found = series(predicted.question, seen)
    assert (found.sent, found.answered) == (3, 2)
    lossy = [(str(s.start), str(s.end), s.came) for s in found.segments if s.lost]
    assert lossy == [("r/br0", "r/rb", 3)]
    assert all(s.best is not None and s.best >= 0 for s in found.segments)


def test_the_capture_file(routed: Any, asking: Any, walking: Any, tmp_path: Path) -> None:
    """Every watched link is an interface; every packet says which hop it is; times are exact."""
    snapshot = routed.snapshot()
    predicted = walking(asking("198.51.100.2"), THERE, BACK)
    seen = observe(snapshot, predicted, timeout=2)
    file = tmp_path / "trace.pcapng"
    file.write_bytes(pcapng(snapshot, [(fuse(predicted, seen), seen)]))
    with PcapNgReader(str(file)) as reader:
        packets = list(reader)
    assert [packet.sniffed_on for packet in packets] == [str(s.place) for s in seen.sightings]
    assert packets[0].comment == b"request, hop 1: a/a0 out, egress"
    for packet, sighting in zip(packets, seen.sightings, strict=True):
        assert abs(float(packet.time) - sighting.time_ns / 1e9) < 2e-6
    assert all(seen.probe.mark in bytes(packet) for packet in packets)
