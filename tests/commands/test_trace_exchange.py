"""Whom ``trace SRC arp`` and ``trace SRC dns NAME`` ask when nobody is named."""

from __future__ import annotations

import pytest

from kvmdiag.commands.trace_exchange import gateway_of, resolver
from kvmdiag.errors import UsageError
from kvmdiag.model.guest import Inside, Resolver
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import NextHop, PolicyRule, Route, Stack

V4, V6 = "10.0.0.1", "fd00::1"


def snapshot(*gateways: str, servers: tuple[str, ...] = ()) -> Snapshot:
    """A guest with default routes by these gateways, and with these name servers."""
    routes = tuple(
        Route(
            destination="::/0" if ":" in gateway else "0.0.0.0/0",
            next_hops=(NextHop(gateway=gateway, link="e0"),),
        )
        for gateway in gateways
    )
    rules = tuple(PolicyRule(priority=1, version=version, table=254) for version in (4, 6))
    stack = Stack(name="vm", kind="guest", netns=None, routes=routes, policy_rules=rules)
    guests = (
        Inside(domain="vm", access="full", stack="vm", resolver=Resolver(nameservers=servers)),
    )
    return Snapshot(tool="t", taken_at="", kernel="", stacks=(stack,), guests=guests)


@pytest.mark.parametrize(
    ("gateways", "version", "asked"),
    [
        ((V4, V6), None, V4),
        ((V4, V6), 6, V6),
        ((V6,), None, V6),
        ((V6,), 4, None),
        ((), None, None),
    ],
)
def test_the_gateway_of_the_version_that_is_wanted(
    gateways: tuple[str, ...], version: int | None, asked: str | None
) -> None:
    """That of IPv4 unless told otherwise, or there is none."""
    assert gateway_of(snapshot(*gateways), "vm:e0", version) == asked


def test_the_name_server() -> None:
    """The guest's own; else the gateway, which is said to be a guess; else it must be named."""
    assert resolver(snapshot(V4, servers=("10.0.0.53",)), "vm") == ("10.0.0.53", None)
    server, why = resolver(snapshot(V4, V6), "vm", 6)
    assert server == V6
    assert why is not None
    assert "not known" in why
    with pytest.raises(UsageError, match="--server"):
        resolver(snapshot(), "vm")
