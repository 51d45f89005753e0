"""A ping inside a guest, started through its agent; here a namespace plays the guest."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from kvmdiag.errors import NotReadableError
from kvmdiag.probes.guest_programs import Inside
from kvmdiag.probes.trace import observe

THERE = "a/a0> >r/r0 r/br0 r/rb> >b/b0"
BACK = "b/b0> >r/rb r/br0> r/r0> >a/a0"


@dataclass
class FakeAgent:
    """Runs in a namespace what it is asked to; ``busybox`` gives its ping instead of iputils'."""

    namespace: Any
    busybox: bool = False
    asked: list[list[str]] = field(default_factory=list)
    _running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, path: str, arguments: Sequence[str]) -> int:
        """As guest-exec."""
        self.asked.append([path, *arguments])
        program = ["busybox", "ping"] if self.busybox else ["ping"]
        command = ["ip", "netns", "exec", self.namespace.name, *program, *arguments]
        self._running.append(
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
        return len(self._running) - 1

    def result(self, pid: int) -> Any:
        """As guest-exec-status."""
        return _Ended(self._running[pid].wait(timeout=10))


@dataclass
class _Ended:
    code: int


class Refusing(FakeAgent):
    """An agent that starts nothing."""

    def start(self, path: str, arguments: Sequence[str]) -> int:
        """As guest-exec where it is forbidden."""
        del arguments
        raise NotReadableError(f"{path}: forbidden")


def seen_from_outside(net: Any) -> Any:
    """The facts, with ``a`` a guest whose inside cannot be entered."""
    snapshot = net.snapshot()
    guest = msgspec.structs.replace(snapshot.stack("a"), kind="guest", netns=None)
    return snapshot.with_stack(guest)


@pytest.mark.parametrize("busybox", [False, True], ids=["iputils", "busybox"])
@pytest.mark.parametrize("destination", ["198.51.100.2", "2001:db8:2::2"])
def test_the_guests_own_ping_is_recognised(
    routed: Any, asking: Any, walking: Any, busybox: bool, destination: str
) -> None:
    """By its payload, at every link outside the guest; ping's end is the answer."""
    if busybox and shutil.which("busybox") is None:
        pytest.skip("needs busybox")
    agent = FakeAgent(routed["a"], busybox=busybox)
    predicted = walking(asking(destination), THERE, BACK)
    seen = observe(seen_from_outside(routed), predicted, timeout=3, enter=lambda _: Inside(agent))
    assert seen.answer is not None
    assert seen.answer.kind == "reply"
    assert [str(s.place) for s in seen.travelling("request")] == ["r/r0", "r/br0", "r/rb", "b/b0"]
    assert [str(s.place) for s in seen.travelling("reply")] == ["b/b0", "r/rb", "r/br0", "r/r0"]
    assert "inside a, through its agent" in seen.remarks[0]
    assert all(command[0].endswith("/ping") for command in agent.asked)


def test_the_guests_ping_without_an_answer(routed: Any, asking: Any, walking: Any) -> None:
    """Lost behind the bridge, seen before it."""
    routed["r"].run("iptables -A FORWARD -o rb -j DROP")
    agent = FakeAgent(routed["a"])
    predicted = walking(asking("198.51.100.2"), THERE, BACK)
    seen = observe(seen_from_outside(routed), predicted, timeout=1, enter=lambda _: Inside(agent))
    assert not seen.reached
    assert str(seen.last_seen) == "r/br0"


def test_an_agent_that_refuses(routed: Any, asking: Any, walking: Any) -> None:
    """The tap is left; without its MAC address, one line says that there is no way."""
    predicted = walking(asking("198.51.100.2"), THERE, BACK)
    agent = Refusing(routed["a"])
    with pytest.raises(NotReadableError, match="MAC is not known"):
        observe(seen_from_outside(routed), predicted, timeout=1, enter=lambda _: Inside(agent))
