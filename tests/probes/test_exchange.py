"""DHCP and DNS exchanges: each message is followed, and the missing one is named."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmdiag.collect.scope import Scope
from kvmdiag.collect.snapshot import collect
from kvmdiag.errors import UsageError
from kvmdiag.model.measure import Exchange
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.probes.arp import _told, follow_arp
from kvmdiag.probes.dhcp import _options, follow_dhcp
from kvmdiag.probes.dns import follow_dns, wire_name
from kvmdiag.simulate.endpoints import resolve
from kvmdiag.simulate.walk import walk as plan

_PLAIN = "dnsmasq --keep-in-foreground --conf-file=/dev/null --pid-file= --no-hosts --no-resolv"
THERE = "a/a0> >r/r0 r/br0"


@pytest.fixture
def server(routed: Any, eventually: Any) -> Callable[..., None]:
    """Start dnsmasq in a namespace, as libvirt does for its networks."""

    def start(where: str, options: str, port: int) -> None:
        if shutil.which("dnsmasq") is None:
            pytest.skip("needs dnsmasq")
        routed[where].start(f"{_PLAIN} --bind-interfaces {options}")
        eventually(
            lambda: f":{port} " in routed[where].run("ss -Hlun").stdout, "dnsmasq does not listen"
        )

    return start


def legs(found: Exchange) -> dict[str, bool | None]:
    """Which message arrived."""
    return {leg.name: leg.arrived for leg in found.legs}


DHCP = "--port=0 --interface=br0 --leasefile-ro --no-ping --dhcp-range=192.0.2.100,192.0.2.150,1h"


def test_an_address_is_offered(routed: Any, server: Callable[..., None]) -> None:
    """Both messages arrive; the offer says what and by whom; no lease comes of it."""
    server("r", DHCP, 67)
    found = follow_dhcp(routed.snapshot(), "a")
    assert found.works
    assert "by 192.0.2.1" in found.verdict
    assert legs(found) == {"DISCOVER": True, "OFFER": True}
    assert {"r/br0", "r/r0", "a/a0"} <= {str(place) for place, _ in found.legs[1].places}


def test_no_server_answers(routed: Any) -> None:
    """Where the question got to is said; whether anybody listens there is not claimed."""
    found = follow_dhcp(routed.snapshot(), "a", timeout=0.5)
    assert not found.works
    assert legs(found) == {"DISCOVER": None, "OFFER": False}
    assert "got to" in found.verdict
    assert "r/br0" in found.verdict


def test_the_offer_is_lost(routed: Any, server: Callable[..., None]) -> None:
    """Seen at the bridge, never at the guest."""
    server("r", DHCP, 67)
    rules = (
        "add table bridge t",
        "add chain bridge t c { type filter hook postrouting priority 0; }",
        "add rule bridge t c oifname r0 udp dport 68 drop",
    )
    routed["r"].run("nft -f -", input="\n".join(rules) + "\n")
    found = follow_dhcp(routed.snapshot(), "a", timeout=1.5)
    assert not found.works
    assert "OFFER is lost" in found.verdict
    assert legs(found) == {"DISCOVER": True, "OFFER": False}


@given(st.binary(max_size=600))
def test_hostile_dhcp_options(data: bytes) -> None:
    """Any bytes: options or none."""
    padded = bytes(236) + b"\x63\x82\x53\x63" + data
    assert all(0 < code < 255 for code in _options(padded))
    _options(data)


DNS = "--interface=br0 --except-interface=lo --server=198.51.100.2"
UPSTREAM = (
    "--listen-address=198.51.100.2 --except-interface=lo --local-ttl=60 "
    "--address=/example.test/192.0.2.99"
)


def asked(routed: Any, asking: Any, walking: Any, name: str) -> Exchange:
    """The exchange with r as the resolver."""
    way = walking(asking("192.0.2.1", proto="udp", port=53), THERE)
    return follow_dns(routed.snapshot(), way, name, timeout=1)


def test_a_name_that_must_be_asked_for_upstream(
    routed: Any, asking: Any, walking: Any, server: Callable[..., None]
) -> None:
    """Query, forward, its answer, and the answer; each is told apart."""
    server("b", UPSTREAM, 53)
    server("r", DNS, 53)
    found = asked(routed, asking, walking, "www.Example.test")
    assert found.works
    assert legs(found) == dict.fromkeys(("query", "forward", "forward's answer", "answer"), True)
    again = asked(routed, asking, walking, "www.example.test")
    assert again.works
    assert legs(again) == {"query": True, "forward": None, "answer": True}


def test_the_upstream_server_is_silent(
    routed: Any, asking: Any, walking: Any, server: Callable[..., None]
) -> None:
    """The missing leg is the answer to what was forwarded."""
    server("r", DNS, 53)
    routed["b"].run("iptables -A INPUT -p udp --dport 53 -j DROP")
    found = asked(routed, asking, walking, "www.example.test")
    assert not found.works
    assert "no answer to what was forwarded" in found.verdict
    assert legs(found)["forward's answer"] is False


def test_nobody_listens(routed: Any, asking: Any, walking: Any) -> None:
    """The refusal is told."""
    found = asked(routed, asking, walking, "www.example.test")
    assert not found.works
    assert "192.0.2.1 says that nobody listens on that port" in found.verdict


@pytest.mark.parametrize("name", ["", "a..b", "x" * 64, "ü.test", ".".join(["a" * 60] * 5)])
def test_names_that_dns_cannot_know(name: str) -> None:
    """One line says so."""
    with pytest.raises(UsageError):
        wire_name(name)


def with_addresses(net: Any) -> Snapshot:
    """The facts, with the routes and addresses that tell who is asked, and from what."""
    names = {member.path: name for name, member in net.members.items() if name != "r"}
    return collect(Scope(host=net["r"].path, names=names, libvirt=False))


def arp(net: Any, destination: str) -> Exchange:
    """``a`` asks for its next hop."""
    snapshot = with_addresses(net)
    return follow_arp(snapshot, plan(snapshot, resolve(snapshot, "a", destination)), timeout=0.7)


@pytest.mark.parametrize("address", ["192.0.2.3", "2001:db8:1::3"])
def test_who_has_an_address(routed: Any, address: str) -> None:
    """Question and answer at every link of the way; the answer names its machine."""
    found = arp(routed, address)
    assert found.works
    assert "(c/c0)" in found.verdict
    assert legs(found) == {"question": True, "answer": True}
    answer = [str(place) for place, _ in found.legs[1].places]
    assert [answer[0], answer[-1]] == ["c/c0", "a/a0"]
    assert {"host/r1", "host/r0"} <= set(answer)


def test_the_next_hop_is_asked_for(routed: Any) -> None:
    """Not the destination, which is behind it."""
    assert arp(routed, "198.51.100.2").subject == "192.0.2.1"


@pytest.mark.parametrize("version", [4, 6])
def test_an_answer_to_that_question_is_lost(routed: Any, version: int) -> None:
    """By a rule of the bridge: where it was last is told."""
    what = "arp operation reply" if version == 4 else "icmpv6 type nd-neighbor-advert"
    routed["r"].run("nft add table bridge t")
    routed["r"].run(["nft", "add chain bridge t f { type filter hook forward priority 0; }"])
    routed["r"].run(f"nft add rule bridge t f {what} drop")
    found = arp(routed, "192.0.2.3" if version == 4 else "2001:db8:1::3")
    assert not found.works
    assert legs(found) == {"question": True, "answer": False}
    assert "the answer is lost; it was last seen at host/" in found.verdict


def test_who_has_it_and_keeps_silent(routed: Any) -> None:
    """It got the question: that is said, and what may keep it from answering."""
    routed["c"].sysctl("net.ipv4.conf.all.arp_ignore", 8)
    found = arp(routed, "192.0.2.3")
    assert "c/c0 has that address, got the question and does not answer" in found.verdict


def test_nobody_has_it(routed: Any) -> None:
    """Where the question got to, and no more."""
    found = arp(routed, "192.0.2.99")
    assert not found.works
    assert {"c/c0", "host/br0"} <= set(re.findall(r"[\w-]+/\w+", found.verdict))


def test_two_that_have_the_same_address(routed: Any) -> None:
    """Both answers are waited for and told."""
    routed["r"].ip("addr add 192.0.2.3/32 dev br0")
    found = arp(routed, "192.0.2.3")
    assert found.works
    assert "2 machines say that they have 192.0.2.3" in found.remarks[0]


@given(data=st.binary(max_size=80))
def test_any_bytes_of_arp_and_nd(data: bytes) -> None:
    """What a guest sends is looked at without harm."""
    for start in (b"", b"\0\1\x08\0\x06\x04\0\x02", b"\x60" + bytes(39) + b"\x88"):
        told = _told(start + data)
        assert told is None or told[1] is None or len(told[1]) <= 17
