"""A look inside guests: their own tcpdump, started through their agents; namespaces play them."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmdiag.probes.guest_capture import packets
from kvmdiag.probes.guest_programs import Inside
from kvmdiag.probes.trace import observe

from .fake_agent import BACK, THERE, WAY, FakeAgent, looked_inside, seen_from_outside


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
