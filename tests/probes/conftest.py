"""Small networks to send probes through, and their facts as far as probing needs them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import pytest

from kvmdiag.model.link import Bridge, Link, LinkRef
from kvmdiag.model.packet import Packet
from kvmdiag.model.question import Endpoint, Question
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Hop, Outcome, Reason, Stage, Trace, Walk


@dataclass(frozen=True)
class Net:
    """Namespaces under the plain names of their stacks."""

    members: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.members[name]

    def snapshot(self, *visible: str) -> Snapshot:
        """Links and nothing else, of the stacks named (or of all)."""
        names = visible or tuple(self.members)
        stacks = tuple(
            Stack(name=name, kind="namespace", netns=self[name].path, links=_links(self[name]))
            for name in names
        )
        return Snapshot(tool="test", taken_at="2026-01-01T00:00:00Z", kernel="test", stacks=stacks)


def _links(namespace: Any) -> tuple[Link, ...]:
    found = json.loads(namespace.run("ip -d -j link").stdout)
    return tuple(
        Link(
            index=link["ifindex"],
            name=link["ifname"],
            type=link["link_type"],
            mac=link.get("address"),
            kind=link.get("linkinfo", {}).get("info_kind"),
            master=link.get("master"),
            # Some peer, so that it is no uplink; which one does not matter to a probe.
            peer=None if link["ifname"].startswith("up") or _is_bridge(link) else LinkRef("a", "b"),
            bridge=Bridge() if _is_bridge(link) else None,
        )
        for link in found
    )


def _is_bridge(link: dict[str, Any]) -> bool:
    return bool(link.get("linkinfo", {}).get("info_kind") == "bridge")


@pytest.fixture
def routed(namespaces: Callable[..., Any], eventually: Callable[..., None]) -> Net:
    """``a`` on ``a0`` - ``r`` bridges ``r0`` and ``r1``, routes and translates - ``b`` on ``b0``.

    a 192.0.2.2, c 192.0.2.3 (both on r's bridge ``br0`` 192.0.2.1), b 198.51.100.2 behind r's
    ``rb`` 198.51.100.1. The same with 2001:db8:1:: and 2001:db8:2:: without translation.
    """
    net = Net({name: namespaces(name) for name in ("a", "r", "b", "c")})
    r = net["r"]
    for namespace in net.members.values():  # addresses are of use at once
        namespace.sysctl("net.ipv6.conf.default.accept_dad", 0)
    for guest, port in (("a", "r0"), ("c", "r1"), ("b", "rb")):
        net[guest].cable(f"{guest}0", r, port)
    _address(net["a"], "a0", "192.0.2.2/24", "2001:db8:1::2/64", "192.0.2.1", "2001:db8:1::1")
    _address(net["c"], "c0", "192.0.2.3/24", "2001:db8:1::3/64", "192.0.2.1", "2001:db8:1::1")
    r.ip(
        "link set lo up",
        "link add br0 type bridge forward_delay 0",
        "link set r0 master br0 up",
        "link set r1 master br0 up",
        "link set br0 address 02:00:00:00:00:01 up",
        "link set rb up",
        "addr add 192.0.2.1/24 dev br0",
        "addr add 2001:db8:1::1/64 dev br0 nodad",
        "addr add 198.51.100.1/24 dev rb",
        "addr add 2001:db8:2::1/64 dev rb nodad",
    )
    net["b"].ip(
        "link set lo up",
        "link set b0 up",
        "addr add 198.51.100.2/24 dev b0",
        "addr add 2001:db8:2::2/64 dev b0 nodad",
        "route add default via 2001:db8:2::1",
    )
    r.sysctl("net.ipv4.ip_forward", 1)
    r.sysctl("net.ipv6.conf.all.forwarding", 1)
    r.run("iptables -t nat -A POSTROUTING -s 192.0.2.0/24 -o rb -j MASQUERADE")
    # The kernel may take a second to tell a bridge that its port has a carrier.
    eventually(lambda: "DOWN" not in r.run("ip -br link").stdout, "a link never came up")
    return net


def _address(guest: Any, link: str, v4: str, v6: str, gateway: str, gateway6: str) -> None:
    guest.ip(
        "link set lo up",
        f"link set {link} up",
        f"addr add {v4} dev {link}",
        f"addr add {v6} dev {link} nodad",
        f"route add default via {gateway}",
        f"route add default via {gateway6}",
    )


def question(destination: str, *, source: str = "a", **more: Any) -> Question:
    """From the guest to an address."""
    link, address = more.pop("link", None), more.pop("address", None)
    return Question(
        source=Endpoint(text=source, stack=source, link=link, address=address),
        destination=Endpoint(text=destination, address=destination),
        **more,
    )


def walk(asked: Question, request: str, reply: str | None = None, **more: Any) -> Walk:
    """A walk written as ``a/a0> >r/r0 =r/br0 r/r1>``: out of, into, and bridged at a link."""
    there = trace(asked, "request", request, **more)
    back = None if reply is None else trace(asked, "reply", reply)
    return Walk(question=asked, request=there, reply=back)


def trace(
    asked: Question,
    direction: Any,
    text: str,
    outcome: Outcome = Outcome.DELIVERED,
    reason: Reason = Reason.ARRIVED,
) -> Trace:
    """One direction of such a walk."""
    version = 6 if ":" in str(asked.destination.address) else 4
    nobody = ip_address("::" if version == 6 else "0.0.0.0")
    hops = []
    for word in text.split():
        stack, link = word.strip("<>=").split("/")
        stage = Stage.BRIDGE if "=" in word else Stage.EGRESS if word[-1] == ">" else Stage.INGRESS
        hops.append(
            Hop(
                direction=direction,
                stack=stack,
                link=link,
                stage=stage,
                packet=Packet(src=nobody, dst=nobody),
                decision="passes",
            )
        )
    return Trace(direction=direction, outcome=outcome, reason=reason, hops=tuple(hops))


@pytest.fixture
def asking() -> Callable[..., Question]:
    """The maker of questions."""
    return question


@pytest.fixture
def walking() -> Callable[..., Walk]:
    """The maker of walks."""
    return walk


_ECHO = """
import selectors, socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
tcp, udp = socket.socket(family), socket.socket(family, socket.SOCK_DGRAM)
for one in (udp, tcp):
    one.bind((sys.argv[1], 7))
tcp.listen()
while True:
    data, who = udp.recvfrom(2048)
    udp.sendto(b"short", who)
"""


@pytest.fixture
def echo(eventually: Callable[..., None]) -> Callable[[Any, str], None]:
    """Start a service on port 7 of TCP and UDP; its datagrams do not carry the probe's mark."""

    def start(namespace: Any, address: str) -> None:
        namespace.start([sys.executable, "-c", _ECHO, address])
        eventually(lambda: ":7 " in namespace.run("ss -Hltn").stdout, "nobody listens")

    return start
