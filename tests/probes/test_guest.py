"""A ping inside a guest, started through its agent; here a namespace plays the guest."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmdiag.errors import NotReadableError
from kvmdiag.model.link import LinkRef
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.probes.dns import follow_dns
from kvmdiag.probes.guest_capture import packets
from kvmdiag.probes.guest_programs import Inside
from kvmdiag.probes.mtu import path_mtu
from kvmdiag.probes.observation import Observation
from kvmdiag.probes.trace import observe

THERE = "a/a0> >r/r0 r/br0 r/rb> >b/b0"
BACK = "b/b0> >r/rb r/br0> r/r0> >a/a0"
WAY = ["a/a0", "r/r0", "r/br0", "r/rb", "b/b0"]


@dataclass
class FakeAgent:
    """Runs in a namespace what it is asked to; ``busybox`` gives its ping instead of iputils'.

    It has no program whose name is in ``lacks``; ``says`` replaces what a program prints.
    """

    namespace: Any
    busybox: bool = False
    lacks: tuple[str, ...] = ()
    says: dict[str, str] = field(default_factory=dict)
    asked: list[list[str]] = field(default_factory=list)
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, path: str, arguments: Sequence[str]) -> int:
        """As guest-exec; the number is that of the process, which may be ended by it."""
        name = path.rpartition("/")[2]
        if name in self.lacks:
            raise NotReadableError(f"{path}: no such program")
        self.asked.append([path, *arguments])
        program = ["busybox", "ping"] if self.busybox and name == "ping" else [name]
        if name == "python3":
            program = [sys.executable]
        command = ["nsenter", f"--net={self.namespace.path}", *program, *arguments]
        with_output = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace"
        )
        self.running.append(with_output)
        return with_output.pid

    def result(self, pid: int) -> Any:
        """As guest-exec-status."""
        program = next(one for one in self.running if one.pid == pid)
        out, _ = program.communicate(timeout=15)
        name = program.args[2].rpartition("/")[2]  # type: ignore[index,union-attr]
        return _Ended(program.returncode, self.says.get(name, out))

    def read(self, path: str) -> str:
        """As guest-file-read."""
        return str(self.namespace.run(f"cat {path}").stdout)


@dataclass
class _Ended:
    code: int
    out: str


class Refusing(FakeAgent):
    """An agent that starts nothing."""

    def start(self, path: str, arguments: Sequence[str]) -> int:
        """As guest-exec where it is forbidden."""
        del arguments
        raise NotReadableError(f"{path}: forbidden")


_ATTEMPTS = 3
TIES = {"r0": LinkRef("a", "a0"), "r1": LinkRef("c", "c0"), "rb": LinkRef("b", "b0")}


def seen_from_outside(net: Any, *guests: str) -> Snapshot:
    """The facts, with ``a`` (or others) a guest whose inside cannot be entered."""
    snapshot: Snapshot = net.snapshot()
    for name in guests or ("a",):
        guest = msgspec.structs.replace(snapshot.stack(name), kind="guest", netns=None)
        snapshot = snapshot.with_stack(guest)
    router = snapshot.stack("r")
    links = tuple(
        msgspec.structs.replace(link, peer=TIES.get(link.name)) for link in router.links or ()
    )
    return snapshot.with_stack(msgspec.structs.replace(router, links=links))


def looked_inside(snapshot: Snapshot, predicted: Any, timeout: float, enter: Any) -> Observation:
    """With a look inside; again where a busy machine was too late with it, which is told."""
    for _ in range(_ATTEMPTS):
        seen = observe(snapshot, predicted, timeout=timeout, enter=enter)
        if not seen.blind:
            break
    return seen


@pytest.mark.parametrize("busybox", [False, True], ids=["iputils", "busybox"])
@pytest.mark.parametrize("destination", ["198.51.100.2", "2001:db8:2::2"])
def test_the_guests_own_ping_is_recognised(
    routed: Any, asking: Any, walking: Any, busybox: bool, destination: str
) -> None:
    """By its payload, at every link outside the guest; ping's end is the answer.

    Of ``c``, a guest beside the way, nothing is said.
    """
    if busybox and shutil.which("busybox") is None:
        pytest.skip("needs busybox")
    agent = FakeAgent(routed["a"], busybox=busybox)
    predicted = walking(asking(destination), THERE, BACK)
    facts = seen_from_outside(routed, "a", "c")
    seen = looked_inside(facts, predicted, 3, lambda _: Inside(agent))
    assert seen.answer is not None
    assert seen.answer.kind == "reply"
    assert [str(s.place) for s in seen.travelling("request")] == WAY
    assert [str(s.place) for s in seen.travelling("reply")] == WAY[::-1]
    assert (seen.watched >= {"a"}, seen.insiders, seen.blind) == (True, ("a",), ())
    assert "inside a, through its agent" in seen.remarks[0]
    started = {command[0].rpartition("/")[2] for command in agent.asked}
    assert started == {"ping", "tcpdump", "timeout", "kill"}


def test_the_guests_ping_without_an_answer(routed: Any, asking: Any, walking: Any) -> None:
    """Lost behind the bridge, seen before it; ``c``, beside the way, was not looked into."""
    routed["r"].run("iptables -A FORWARD -o rb -j DROP")
    agent = FakeAgent(routed["a"])
    predicted = walking(asking("198.51.100.2"), THERE, BACK)
    facts = seen_from_outside(routed, "a", "c")
    seen = observe(facts, predicted, timeout=1, enter=lambda _: Inside(agent))
    assert not seen.reached
    assert str(seen.last_seen) == "r/br0"
    assert "off the predicted way" in dict(seen.blind)["c"]


@pytest.mark.parametrize("address", ["198.51.100.2", "2001:db8:2::2"])
@pytest.mark.parametrize("proto", ["tcp", "udp"])
def test_a_socket_inside(
    routed: Any, asking: Any, walking: Any, echo: Any, proto: str, address: str
) -> None:
    """By a few lines of Python: known at every link, and the guest's own kernel has the answer."""
    echo(routed["b"], address)
    agent = FakeAgent(routed["a"])
    predicted = walking(asking(address, proto=proto, port=7), THERE, BACK)
    seen = observe(seen_from_outside(routed), predicted, timeout=3, enter=lambda _: Inside(agent))
    assert seen.reached
    assert [str(s.place) for s in seen.travelling("request")] == WAY
    assert [str(s.place) for s in seen.travelling("reply")] == WAY[::-1]
    assert "sent by python3" in seen.remarks[0]


def test_how_a_socket_inside_fails(routed: Any, asking: Any, walking: Any) -> None:
    """A closed port is a refusal; what the guest's own rules forbid is told as its own error."""
    agent = FakeAgent(routed["a"])

    def tried() -> Any:
        predicted = walking(asking("198.51.100.2", proto="tcp", port=9), THERE, BACK)
        snapshot = seen_from_outside(routed)
        return observe(snapshot, predicted, timeout=3, enter=lambda _: Inside(agent)).answer

    assert tried().kind == "refused"
    routed["a"].run("iptables -A OUTPUT -p tcp --dport 9 -j REJECT --reject-with tcp-reset")
    assert tried().kind == "refused"
    routed["a"].run("ip route del default")
    answer = tried()
    assert (answer.kind, answer.text, answer.local) == ("error", "Network is unreachable", True)


@pytest.mark.parametrize("size", [60, 1400])
def test_a_ping_of_chosen_size(routed: Any, asking: Any, walking: Any, size: int) -> None:
    """DF set, the mark behind what ping writes over the payload; evidence finds it there, too."""
    routed["r"].run("iptables -A FORWARD -o rb -j DROP")
    predicted = walking(asking("198.51.100.2", size=size), THERE, BACK)
    agent = FakeAgent(routed["a"])
    seen = observe(seen_from_outside(routed), predicted, timeout=1, enter=lambda _: Inside(agent))
    assert [str(s.place) for s in seen.travelling("request")] == ["a/a0", "r/r0", "r/br0"]
    assert {s.packet.length for s in seen.travelling("request")} == {size}
    assert all(s.packet.dont_fragment for s in seen.travelling("request"))
    assert seen.evidence is not None
    assert [drop.reason for drop in seen.evidence.drops] == ["NETFILTER_DROP"]


def test_the_path_mtu_from_inside(routed: Any, asking: Any, walking: Any) -> None:
    """By the guest's own ping with DF, many at once; nothing else is started in there."""
    routed["r"].ip("link set rb mtu 1400")
    agent = FakeAgent(routed["a"])
    predicted = walking(asking("198.51.100.2"), THERE, BACK)
    snapshot = seen_from_outside(routed)
    found = path_mtu(snapshot, predicted, timeout=1, enter=lambda _: Inside(agent))
    assert (found.largest, found.lost) == (1400, 1401)
    assert {command[0].rpartition("/")[2] for command in agent.asked} == {"ping"}


def test_a_name_asked_for_from_inside(routed: Any, asking: Any, walking: Any) -> None:
    """The guest's own socket sends the query; nobody serves, which the guest is told."""
    predicted = walking(asking("198.51.100.2", proto="udp", port=53), THERE, BACK)
    agent = FakeAgent(routed["a"])
    snapshot = seen_from_outside(routed)
    found = follow_dns(snapshot, predicted, "example.org", enter=lambda _: Inside(agent))
    assert not found.works
    assert str(found.legs[0].places[-1][0]) == "b/b0"
    assert "sent by python3" in found.remarks[0]
    assert "nobody listens on that port" in found.verdict


@pytest.mark.parametrize("lacks", [("python3", "python", "platform-python"), ("tcpdump",)])
def test_what_the_guest_lacks(
    routed: Any, asking: Any, walking: Any, lacks: tuple[str, ...]
) -> None:
    """It is told what is missing, and the rest goes on."""
    agent = FakeAgent(routed["a"], lacks=lacks)
    proto = {"proto": "tcp", "port": 7} if "python3" in lacks else {}
    predicted = walking(asking("198.51.100.2", address="192.0.2.2", **proto), THERE, BACK)
    snapshot = seen_from_outside(routed)
    seen = observe(snapshot, predicted, timeout=1, enter=lambda _: Inside(agent))
    if proto:
        assert "as if a had sent it" in seen.remarks[0]
        assert (
            seen.remarks[1] == "not sent from inside: the agent does not start python3 in the guest"
        )
    else:
        assert seen.blind == (("a", "the agent does not start tcpdump in the guest"),)


def test_a_guest_on_the_way(routed: Any, asking: Any, walking: Any) -> None:
    """Who receives is looked into as well, its clock aside; nothing of it runs on there."""
    agents = {"a": FakeAgent(routed["a"]), "b": FakeAgent(routed["b"])}
    predicted = walking(asking("198.51.100.2"), THERE, BACK)
    snapshot = seen_from_outside(routed, "a", "b")
    seen = looked_inside(snapshot, predicted, 3, lambda name: Inside(agents[name]))
    assert [str(s.place) for s in seen.travelling("request")] == WAY
    assert [str(s.place) for s in seen.travelling("reply")] == WAY[::-1]
    assert set(seen.insiders) == {"a", "b"}
    times = [s.time_ns for s in seen.sightings]
    assert times == sorted(times)
    for agent in agents.values():
        assert all(program.poll() is not None for program in agent.running)


@pytest.mark.parametrize(("timeout", "seconds"), [(0.5, "2"), (2, "5"), (30, "10")])
def test_how_long_tcpdump_may_go_on(
    routed: Any, asking: Any, walking: Any, timeout: float, seconds: str
) -> None:
    """Inside something else ends it, a little after the trace itself must have ended."""
    agent = FakeAgent(routed["b"])
    predicted = walking(asking("198.51.100.2", source="c"), "c/c0> >r/r1 r/br0 r/rb> >b/b0")
    snapshot = seen_from_outside(routed, "b")
    seen = looked_inside(snapshot, predicted, timeout, lambda _: Inside(agent))
    assert seen.insiders == ("b",)
    started = [command[1:4] for command in agent.asked if "-c" in command]
    assert started[0] == ["-s", "KILL", seconds]


_LIES = {
    "nothing": "",
    "prose": "there is nothing to see\n" * 1000,
    "endless": "1.000000 a0  In  IP x\n" + "\t0x0000:  4500 0054\n" * 300_000,
    "many": ("1.000000 a0  In  IP x\n\t0x0000:  4500 0054\n") * 50_000,
    "escapes": "1.000000 \x1b]0;x\x07  In  IP x\n\t0x0000:  4500 0054\n",
    "old": "1.000000 IP 192.0.2.2 > 198.51.100.2: ICMP\n\t0x0000:  4500 0054\n",
}


@pytest.mark.parametrize("lie", _LIES)
def test_a_guest_that_lies_about_its_inside(
    routed: Any, asking: Any, walking: Any, lie: str
) -> None:
    """It takes no time, proves nothing, and what was seen outside stands."""
    agent = FakeAgent(routed["a"], says={"timeout": _LIES[lie]})
    predicted = walking(asking("198.51.100.2"), THERE, BACK)
    started = time.monotonic()
    seen = observe(seen_from_outside(routed), predicted, timeout=3, enter=lambda _: Inside(agent))
    assert time.monotonic() - started < 10
    assert seen.reached
    assert [str(s.place) for s in seen.travelling("request")] == WAY[1:]
    assert "a" not in seen.watched
    assert seen.insiders == ()


_LINE = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["1.000001 a0  Out IP x", "\t0x0000:  4500 0054 a7", "\t0x0010:  zz", "\x85"]),
)


@given(printed=st.lists(_LINE, max_size=30).map("\n".join))
def test_whatever_tcpdump_prints(printed: str) -> None:
    """Nothing of it does harm, and no packet is longer than what was asked for."""
    for packet in packets(printed):
        assert 0 < len(packet.data) <= 192
        assert packet.way in ("In", "Out", "P", "B", "M")


def test_an_agent_that_refuses(routed: Any, asking: Any, walking: Any) -> None:
    """The tap is left; without its MAC address, one line says that there is no way."""
    predicted = walking(asking("198.51.100.2"), THERE, BACK)
    agent = Refusing(routed["a"])
    with pytest.raises(NotReadableError, match="is not known"):
        observe(seen_from_outside(routed), predicted, timeout=1, enter=lambda _: Inside(agent))
