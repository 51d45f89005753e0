"""A network and the questions asked of it, as plain data that prints as it is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BackendName = Literal["legacy", "iptables", "nft"]
Protocol = Literal["icmp", "tcp", "udp"]

PORTS = (53, 80, 8080)
"""Ports that are listened on in every stack, TCP and UDP."""


@dataclass(frozen=True)
class Rule:
    """A rule: matches as (what, value, negated), then what is done."""

    matches: tuple[tuple[str, str, bool], ...] = ()
    does: tuple[str, ...] = ("accept",)


@dataclass(frozen=True)
class Chain:
    """A chain; ``hook`` is ``None`` for one that is only jumped to."""

    name: str
    rules: tuple[Rule, ...] = ()
    hook: str | None = None
    type: str = "filter"
    priority: int = 0
    policy: str = "accept"
    device: str | None = None
    """Of the families netdev and inet, at ingress and egress."""


@dataclass(frozen=True)
class Table:
    """A table of one backend. For iptables, chains of the user's come without a hook."""

    backend: BackendName
    family: str
    name: str
    chains: tuple[Chain, ...] = ()
    sets: tuple[str, ...] = ()
    """Named sets and maps, as ``nft -f`` reads them."""


@dataclass(frozen=True)
class Bridge:
    """A bridge; ``address`` with its prefix length, if it has one."""

    name: str
    address: str | None = None
    nf_call: bool = False
    stp: bool = False
    """With the longest forward delay there is: ports stay listening."""


@dataclass(frozen=True)
class Link:
    """One end of a cable; ``port`` holds settings as ``bridge link set`` takes them."""

    name: str
    address: str | None = None
    master: str | None = None
    port: tuple[str, ...] = ()
    mac: str | None = None
    mtu: int | None = None
    over: tuple[str, str, str] | None = None
    """Of a macvlan: the stack and link that it stands on, and its mode."""


@dataclass(frozen=True)
class Stack:
    """A network stack. Routes and rules are arguments of ``ip route add`` and ``ip rule add``."""

    name: str
    links: tuple[Link, ...] = ()
    bridges: tuple[Bridge, ...] = ()
    routes: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    sysctls: tuple[tuple[str, int], ...] = ()
    tables: tuple[Table, ...] = ()
    ipsets: tuple[str, ...] = ()
    """Lines for ``ipset restore``."""
    fdb: tuple[tuple[str, ...], ...] = ()
    """Static FDB entries: port, MAC address, and perhaps sticky."""
    extra: tuple[str, ...] = ()
    """More lines for ``ip -batch``, at the very end."""


@dataclass(frozen=True)
class Cable:
    """A veth pair: (stack, link) on either side."""

    one: tuple[str, str]
    other: tuple[str, str]


@dataclass(frozen=True)
class Ask:
    """Something is sent from a stack to an address; replies are waited for."""

    source: str
    address: str
    proto: Protocol = "icmp"
    port: int | None = None
    bound: str | None = None
    """The source address that is asked for."""
    size: int | None = None
    """Bytes of the whole packet, which then must not be cut up."""


@dataclass(frozen=True)
class Case:
    """A network and what is asked of it."""

    stacks: tuple[Stack, ...]
    cables: tuple[Cable, ...]
    asks: tuple[Ask, ...]
    version: Literal[4, 6] = 4
