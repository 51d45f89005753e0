"""A guest that cannot be entered: its probe enters the host on its tap, as if it had sent it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from kvmdiag.errors import NotReadableError
from kvmdiag.probes.behind_tap import behind_tap
from kvmdiag.probes.packet import new_probe
from kvmdiag.probes.tap import TapSender
from kvmdiag.probes.trace import observe

from .conftest import walk
from .fake_guest import MAC, asked, build_host, guest_end, received, snapshot

THERE = "host/vnet0 host/br0"


@pytest.fixture
def host(namespaces: Any, eventually: Any) -> Iterator[tuple[Any, int]]:
    """The host, and the guest's end of its tap."""
    host = namespaces("host")
    build_host(host)
    with guest_end(host, "vnet0") as tap:
        eventually(lambda: "DOWN" not in host.run("ip -br link").stdout, "the tap has no carrier")
        yield host, tap


@pytest.mark.parametrize(
    ("destination", "more"),
    [
        ("198.51.100.1", {}),
        ("2001:db8:1::1", {}),
        ("198.51.100.1", {"proto": "udp", "port": 7}),
        ("198.51.100.1", {"proto": "tcp", "port": 7}),
    ],
    ids=["icmp", "icmpv6", "udp", "tcp"],
)
def test_the_host_takes_it_for_the_guests(
    host: tuple[Any, int], echo: Any, destination: str, more: dict[str, Any]
) -> None:
    """It comes in by the tap from the guest's addresses; the reply leaves by the tap."""
    namespace, tap = host
    echo(namespace, destination)
    seen = observe(snapshot(namespace), walk(asked(destination, **more), THERE), timeout=2)
    assert seen.answer is not None
    assert seen.answer.kind == "reply"
    first, last = seen.travelling("request")[0], seen.travelling("reply")[-1]
    assert (str(first.place), first.direction_on_link) == ("host/vnet0", "otherhost")
    assert (str(last.place), last.direction_on_link) == ("host/vnet0", "out")
    assert "as if vm had sent it" in seen.remarks[0]
    assert "as its lease says" in seen.remarks
    assert bytes.fromhex(MAC.replace(":", "")) in {frame[:6] for frame in received(tap)}


def test_nobody_answers_for_the_next_hop(host: tuple[Any, int]) -> None:
    """ARP in the guest's name is part of its way; its failure is an answer of its own."""
    seen = observe(snapshot(host[0]), walk(asked("192.0.2.77"), THERE), timeout=2)
    assert seen.answer is not None
    assert "192.0.2.77 does not answer ARP" in seen.answer.text


def test_a_tap_that_is_down(host: tuple[Any, int]) -> None:
    """It takes nothing in, which is an answer and no failure."""
    host[0].ip("link set vnet0 down")
    seen = observe(snapshot(host[0]), walk(asked("198.51.100.1"), THERE), timeout=1)
    assert seen.answer is not None
    assert "vnet0 takes nothing in" in seen.answer.text
    assert seen.sightings == ()


def test_a_closed_port(host: tuple[Any, int]) -> None:
    """A reset that leaves towards the guest is a refusal."""
    question = asked("198.51.100.1", proto="tcp", port=99)
    seen = observe(snapshot(host[0]), walk(question, THERE), timeout=2)
    assert seen.answer is not None
    assert seen.answer.kind == "refused"


def test_without_bpf(host: tuple[Any, int], eventually: Any) -> None:
    """The detour by a redirected veth does the same and is gone at once."""
    namespace, tap = host
    before = namespace.run("ip -o link").stdout
    question = asked("198.51.100.1")
    behind = behind_tap(snapshot(namespace), walk(question, THERE))
    with TapSender(behind, new_probe(question), redirect=True) as sender:
        sender.prepare()
        assert sender.send() is None
        mark = sender.probe.mark
        eventually(lambda: any(mark in frame for frame in received(tap)), "no reply to the guest")
    eventually(lambda: namespace.run("ip -o link").stdout == before, "the veth is still there")


_FOREVER = """
import sys, time
from kvmdiag.probes.tap_redirect import TapRedirect
with TapRedirect(sys.argv[1], "vnet0", 1500):
    print("there", flush=True)
    time.sleep(60)
"""


def test_kill_9_leaves_nothing(host: tuple[Any, int], eventually: Any) -> None:
    """The namespace without a name, its veth and its filter die with the process."""
    namespace, _ = host
    program = subprocess.Popen(
        [sys.executable, "-c", _FOREVER, namespace.path], stdout=subprocess.PIPE, text=True
    )
    try:
        assert program.stdout is not None
        assert program.stdout.readline() == "there\n"
        assert "kvmdiag" in namespace.run("ip -o link").stdout
    finally:
        program.kill()
        program.communicate(timeout=10)
    eventually(lambda: "kvmdiag" not in namespace.run("ip -o link").stdout, "the veth stays")
    assert "mirred" not in namespace.run("tc qdisc").stdout


def test_what_is_not_known_is_not_made_up(host: tuple[Any, int]) -> None:
    """Without the guest's MAC address nothing is sent in its name."""
    known = snapshot(host[0])
    with pytest.raises(NotReadableError, match="MAC is not known"):
        behind_tap(msgspec.structs.replace(known, domains=None), walk(asked("198.51.100.1"), THERE))
