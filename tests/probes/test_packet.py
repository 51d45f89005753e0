"""What is built is recognised again; what others forge is not, and nothing crashes."""

from __future__ import annotations

import os
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmdiag.model.question import Endpoint, Question
from kvmdiag.probes.packet import Probe, build, dissect, new_probe
from kvmdiag.probes.scapy_quiet import layers

ENDS = {4: ("192.0.2.1", "198.51.100.2"), 6: ("2001:db8::1", "2001:db8::2")}
PROBES = [
    Probe(proto=proto, version=version, mark=b"ABCDEFGH", ident=4711, number=0xFFFFFFFF, port=port)
    for version, proto, port in (
        (4, "icmp", None), (6, "icmpv6", None), (4, "tcp", 80), (6, "tcp", 80), (4, "udp", 53),
        (6, "udp", 53),
    )
]  # fmt: skip
NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58}


def header(version: int, proto: str, ends: tuple[str, str] | None = None) -> Any:
    """An IP header of scapy's."""
    source, destination = ends or ENDS[version]
    if version == 4:
        return layers().IP(src=source, dst=destination, proto=NUMBERS[proto])
    return layers().IPv6(src=source, dst=destination, nh=NUMBERS[proto])


def sent(probe: Probe) -> bytes:
    """The probe as it is on the wire; UDP's header is the kernel's work."""
    source, destination = ENDS[probe.version]
    return bytes(header(probe.version, probe.proto) / build(probe, source, destination))


@pytest.mark.parametrize("probe", PROBES, ids=lambda p: f"{p.proto}{p.version}")
def test_the_probe_is_recognised(probe: Probe) -> None:
    """As the request, with its addresses and ports."""
    found = dissect(sent(probe), probe)
    assert found is not None
    assert found.direction == "request"
    assert not found.quoted
    assert found.packet.src == ip_address(ENDS[probe.version][0])
    assert found.packet.proto == probe.proto
    assert found.packet.dport == probe.port


@pytest.mark.parametrize("probe", PROBES, ids=lambda p: f"{p.proto}{p.version}")
def test_another_probe_is_not(probe: Probe) -> None:
    """Two traces at once do not see each other."""
    other = msgspec.structs.replace(probe, mark=b"12345678", number=5, ident=7)
    assert dissect(sent(probe), other) is None


@pytest.mark.parametrize("probe", PROBES, ids=lambda p: f"{p.proto}{p.version}")
def test_an_icmp_error_quotes_it(probe: Probe) -> None:
    """Even one that quotes no more than eight bytes above the IP header (RFC 792)."""
    quotation = sent(probe)[: (20 if probe.version == 4 else 40) + 8]
    proto, kind = ("icmp", 3) if probe.version == 4 else ("icmpv6", 1)
    router = ("203.0.113.1", "192.0.2.1") if probe.version == 4 else ("2001:db8::9", "2001:db8::1")
    error = bytes((kind, 1, 0, 0, 0, 0, 0, 0)) + quotation
    found = dissect(bytes(header(probe.version, proto, router) / error), probe)
    assert found is not None
    assert found.quoted
    assert found.direction == "reply"
    assert str(found.packet.src) == router[0]


def test_tcp_replies_acknowledge_the_number() -> None:
    """The sequence number plus one, modulo 2**32; the reset of a closed port too."""
    probe = PROBES[2]
    ends = ENDS[4][1], ENDS[4][0]
    for flags, names in (("SA", {"syn", "ack"}), ("RA", {"rst", "ack"})):
        segment = layers().TCP(sport=80, dport=probe.ident, seq=99, ack=0, flags=flags)
        found = dissect(bytes(header(4, "tcp", ends) / segment), probe)
        assert found is not None
        assert found.direction == "reply"
        assert found.packet.tcp_flags == names


@given(probe=st.sampled_from(PROBES), data=st.binary(max_size=400))
def test_any_bytes(probe: Probe, data: bytes) -> None:
    """Hostile bytes are ignored."""
    assert dissect(data, probe) is None


@given(
    probe=st.sampled_from(PROBES),
    at=st.integers(0, 90),
    byte=st.integers(0, 255),
    length=st.integers(0, 120),
)
def test_damaged_probes(probe: Probe, at: int, byte: int, length: int) -> None:
    """One byte changed and the end cut off: something or nothing, never an exception."""
    data = bytearray(sent(probe))
    data[min(at, len(data) - 1)] = byte
    found = dissect(bytes(data[:length]), probe)
    assert found is None or found.packet.version == probe.version


def test_marks_differ() -> None:
    """Each probe has a mark of its own and the protocol of its address family."""
    end = Endpoint(text="x", address="2001:db8::1")
    question = Question(source=end, destination=end)
    one, two = new_probe(question), new_probe(question)
    assert one.mark != two.mark
    assert one.proto == "icmpv6"


def test_loading_scapy_leaves_the_machine_alone(tmp_path: Path) -> None:
    """No cache in the home directory, no interfaces read, and scapy stays whole."""
    script = (
        "import socket; real = socket.socket\n"
        "class Watched(real):\n"
        "    def __init__(self, *a, **k): raise AssertionError('scapy opens a socket')\n"
        "socket.socket = Watched\n"
        "from kvmdiag.probes.scapy_quiet import layers\n"
        "print(len(bytes(layers().IP(dst='192.0.2.1', src='192.0.2.2') / layers().TCP())))\n"
        "from scapy.interfaces import NetworkInterfaceDict\n"
        "assert NetworkInterfaceDict.reload.__name__ == 'reload'\n"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.stdout == "40\n", done.stderr
    assert list(tmp_path.iterdir()) == []
