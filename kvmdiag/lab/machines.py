"""Machines of practice networks and their links in few words."""

from __future__ import annotations

from collections.abc import Mapping

from kvmdiag.lab.spec import Link, Machine

FORWARDING: Mapping[str, str] = {"net.ipv4.ip_forward": "1"}
"""The settings of a machine that forwards."""


def nic(
    name: str, mac: str, *addresses: str, peer: str | None = None, mtu: int | None = None
) -> Link:
    """A link with addresses; ``peer`` is the other end of its cable unless that one names it."""
    return Link(name=name, mac=mac, addresses=addresses, peer=peer, mtu=mtu)


def bridge(name: str, mac: str, *addresses: str, mtu: int | None = None) -> Link:
    """A bridge, with addresses or without."""
    return Link(name=name, kind="bridge", mac=mac, addresses=addresses, mtu=mtu)


def tap(name: str, mac: str, master: str, peer: str, *, mtu: int | None = None) -> Link:
    """A port of a bridge; ``peer`` is what it leads to, ``GUEST:NIC``."""
    return Link(name=name, mac=mac, master=master, peer=peer, mtu=mtu)


def guest(name: str, inside: Link, gateway: str | None = None) -> Machine:
    """A machine with one NIC."""
    routes = (f"default via {gateway} dev {inside.name}",) if gateway else ()
    return Machine(name=name, links=(inside,), routes=routes)


UPLINK = nic("eno1", "52:54:00:10:00:10", "10.0.0.10/24", peer="outside:lan")
"""A host's way out: to the router at 10.0.0.1, which is also 10.0.0.9."""
OUTSIDE = Machine(
    name="outside", links=(nic("lan", "52:54:00:10:00:09", "10.0.0.9/24", "10.0.0.1/24"),)
)


def host(*links: Link, rules: str = "") -> Machine:
    """A host that forwards, with that uplink and these links."""
    return Machine(
        name="host",
        links=(UPLINK, *links),
        routes=("default via 10.0.0.1 dev eno1",),
        sysctls=FORWARDING,
        rules=rules,
    )
