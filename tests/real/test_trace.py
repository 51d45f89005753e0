"""Traces from virtual machines that really run: by their own ping, and on their taps."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from kvmdiag.commands.main import main

from .conftest import RealLab

OUTSIDE = "10.0.0.9"
Trace = Callable[..., tuple[int, Any]]


@pytest.fixture
def trace(libvirt_nat: RealLab, capsys: pytest.CaptureFixture[str]) -> Trace:
    """``kvmdiag trace web ...``: exit code and the JSON object."""

    def run(*arguments: str) -> tuple[int, Any]:
        code = main(["--lab", libvirt_nat.label, "trace", "web", *arguments, "--format", "json"])
        return code, json.loads(capsys.readouterr().out)

    return run


def test_by_the_guests_own_ping(trace: Trace) -> None:
    """Seen at every link, inside too by its tcpdump; ping's end there is the answer."""
    code, found = trace(OUTSIDE)
    assert code == 0
    assert "inside web, through its agent" in found["probe"]["remarks"][0]
    assert all(hop["seen"] for hop in found["hops"] if hop["time_us"] is not None)
    assert {"vnet", "virb", "eno1"} <= {(hop["link"] or "")[:4] for hop in found["hops"]}


def test_inside_by_the_guests_own_tcpdump(trace: Trace, eventually: Callable[..., None]) -> None:
    """Its NIC is a hop that was seen, both ways; a slow guest may need a second trace."""

    def seen_inside() -> bool:
        code, found = trace(OUTSIDE)
        assert code == 0
        inside = [hop for hop in found["hops"] if hop["stack"] == "web" and hop["time_us"]]
        assert "web" in found["probe"]["insiders"] or "web" in found["probe"]["unwatched"]
        return found["probe"]["insiders"] == ["web"] and len(inside) == 2

    eventually(seen_inside, "tcpdump inside saw nothing", seconds=60)


@pytest.mark.parametrize("access", ["agent", "none"])
@pytest.mark.parametrize("more", [(), ("--tcp", "81"), ("--udp", "81")], ids=str)
def test_on_the_guests_tap(trace: Trace, access: str, more: tuple[str, ...]) -> None:
    """The host takes the probe for the guest's, and answers come back to its tap."""
    code, found = trace(OUTSIDE, "--on-tap", "--guest-access", access, *more)
    assert "as if web had sent it" in found["probe"]["remarks"][0]
    assert code == (0 if not more else 1)  # nobody listens there
    assert found["probe"]["reached"] == (not more)


def test_dhcp_of_a_real_guest(trace: Trace) -> None:
    """The dnsmasq that libvirt started offers the guest its address."""
    code, found = trace("dhcp", "--on-tap")
    assert code == 0
    assert [leg["arrived"] for leg in found["legs"]] == [True, True]
    assert "192.168.122." in found["verdict"]
