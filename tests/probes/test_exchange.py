"""DHCP and DNS exchanges: each message is followed, and the missing one is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmdiag.errors import UsageError
from kvmdiag.model.measure import Exchange
from kvmdiag.probes.dhcp import _options, follow_dhcp
from kvmdiag.probes.dns import follow_dns, wire_name

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
    assert "ICMP error 3/3" in found.verdict


@pytest.mark.parametrize("name", ["", "a..b", "x" * 64, "ü.test", ".".join(["a" * 60] * 5)])
def test_names_that_dns_cannot_know(name: str) -> None:
    """One line says so."""
    with pytest.raises(UsageError):
        wire_name(name)
