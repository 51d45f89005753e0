"""One representation for rules of iptables (nft-backed and legacy), nft and ebtables.

A rule is a sequence of matches and statements, carried out from left to right; it stops at
the first match that is false. Their kinds are in :mod:`kvmdiag.model.matches` and
:mod:`kvmdiag.model.statements`. Evaluation is three-valued: what we cannot evaluate is kept as
an unknown match or statement with its text, and never dropped.
Sources: nft(8), iptables-extensions(8), include/uapi/linux/netfilter.h.
"""

from __future__ import annotations

from typing import Literal

from kvmdiag.model.fact import Fact
from kvmdiag.model.matches import Match
from kvmdiag.model.statements import Statement

Family = Literal["ip", "ip6", "inet", "arp", "bridge", "netdev"]
Backend = Literal["iptables-nft", "iptables-legacy", "nft"]
HookName = Literal["prerouting", "input", "forward", "output", "postrouting", "ingress", "egress"]


class Rule(Fact, frozen=True, kw_only=True):
    """One rule. ``text`` is how its own tool prints it, ``handle`` its nft handle."""

    body: tuple[Match | Statement, ...]
    text: str
    handle: int | None = None
    packets: int | None = None
    bytes: int | None = None
    comment: str | None = None


class Chain(Fact, frozen=True, kw_only=True):
    """A chain. ``hook``, ``type``, ``priority`` and ``policy`` are those of a base chain.

    ``type`` is filter, nat or route; ``devices`` is for netdev chains.
    """

    name: str
    rules: tuple[Rule, ...] = ()
    hook: HookName | None = None
    type: Literal["filter", "nat", "route"] | None = None
    priority: int = 0
    policy: Literal["accept", "drop"] = "accept"
    devices: tuple[str, ...] = ()
    packets: int | None = None
    bytes: int | None = None


class NamedSet(Fact, frozen=True, kw_only=True):
    """A named set, map or ipset: ``type`` and ``elements`` as its tool prints them.

    ``ipv4_addr . inet_service`` with ``10.0.0.0/8 . 80-90``; a map's type is ``key : value``,
    and so are its elements; an ipset's is ``hash:ip,port`` with ``10.0.0.1,tcp:80``. Times,
    counters and comments of elements are left out. An ipset stands in every table with a
    rule that asks it.
    """

    name: str
    type: str
    elements: tuple[str, ...] = ()


class Flowtable(Fact, frozen=True, kw_only=True):
    """Where flows that a rule has put in (``flow add @name``) take a short cut past the hooks.

    From when on a flow is in it, its packets go from ``devices`` to ``devices`` and are seen by
    no chain after ingress.
    """

    name: str
    devices: tuple[str, ...] = ()
    priority: int = 0


class Table(Fact, frozen=True, kw_only=True):
    """A table of one family and one backend, with all its chains in the order listed."""

    family: Family
    name: str
    backend: Backend
    chains: tuple[Chain, ...] = ()
    sets: tuple[NamedSet, ...] = ()
    flowtables: tuple[Flowtable, ...] = ()

    def chain(self, name: str) -> Chain | None:
        """The chain of that name, if this table has one."""
        return next((chain for chain in self.chains if chain.name == name), None)
