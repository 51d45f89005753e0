"""A probe from inside a guest, sent through its agent; here a namespace plays the guest."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from kvmdiag.errors import NotReadableError
from kvmdiag.probes.dns import follow_dns
from kvmdiag.probes.guest_programs import Inside
from kvmdiag.probes.mtu import path_mtu
from kvmdiag.probes.trace import observe

from .fake_agent import BACK, THERE, WAY, FakeAgent, Refusing, looked_inside, seen_from_outside


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


def test_an_agent_that_refuses(routed: Any, asking: Any, walking: Any) -> None:
    """The tap is left; without its MAC address, one line says that there is no way."""
    predicted = walking(asking("198.51.100.2"), THERE, BACK)
    agent = Refusing(routed["a"])
    with pytest.raises(NotReadableError, match="is not known"):
        observe(seen_from_outside(routed), predicted, timeout=1, enter=lambda _: Inside(agent))
