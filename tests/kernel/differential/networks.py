"""Small networks for the fixed scenarios, and how the one question asked of them ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from differential.judge import PATIENT, Verdict, judge
from differential.plan import Ask, Bridge, Cable, Case, Chain, Link, Rule, Stack, Table

FORWARD = "net.ipv4.ip_forward"
CALL = "net.bridge.bridge-nf-call-iptables"
ARRIVES = "request delivered arrived"
ACROSS = Ask("g1", "10.0.1.3")
OVER = Ask("guest", "10.0.2.2")


def drop(*matches: tuple[str, str, bool]) -> Rule:
    """A rule that drops what matches."""
    return Rule(matches, ("drop",))


def iptables(name: str, chain: str, *rules: Rule, policy: str = "accept") -> Table:
    """A table of iptables-nft with rules in one built-in chain."""
    kind = "nat" if name == "nat" else "filter"
    return Table("iptables", "ip", name, (Chain(chain, rules, chain.lower(), kind, 0, policy),))


def nft(family: str, hook: str, *rules: Rule, kind: str = "filter", priority: int = 0) -> Table:
    """A table of nft with one base chain."""
    return Table("nft", family, f"t_{hook}", (Chain("c", rules, hook, kind, priority),))


def bridged(ask: Ask, *, ports: tuple[tuple[str, ...], ...] = ((), ()), **host: Any) -> Case:
    """Guests g1 (10.0.1.2) and g2 (10.0.1.3) on br1 (10.0.1.1) of the host."""
    guests = tuple(
        Stack(
            f"g{n}",
            links=(Link("eth0", f"10.0.1.{n + 1}/24"),),
            routes=("default via 10.0.1.1",),
        )
        for n in (1, 2)
    )
    links = tuple(Link(f"v{n}", master="br1", port=ports[n - 1]) for n in (1, 2))
    bridge = host.pop("bridge", Bridge("br1", "10.0.1.1/24"))
    cables = tuple(Cable((f"g{n}", "eth0"), ("host", f"v{n}")) for n in (1, 2))
    stack = Stack("host", links=links, bridges=(bridge,), **host)
    return Case((stack, *guests), cables, (ask,))


def routed(ask: Ask, *, guest: Stack | None = None, far: Stack | None = None, **host: Any) -> Case:
    """Guest 10.0.1.2, the host 10.0.1.1 and 10.0.2.1, far 10.0.2.2."""
    sysctls = ((FORWARD, 1), *host.pop("sysctls", ()))
    links = (Link("in0", "10.0.1.1/24"), Link("out0", "10.0.2.1/24"))
    stack = Stack("host", links=links, sysctls=sysctls, **host)
    own = guest or Stack("guest", routes=("default via 10.0.1.1",))
    own = replace(own, links=(Link("eth0", "10.0.1.2/24"),))
    other = far or Stack("far", routes=("default via 10.0.2.1",))
    other = replace(other, links=(Link("eth0", "10.0.2.2/24"),))
    cables = (
        Cable(("guest", "eth0"), ("host", "in0")),
        Cable(("far", "eth0"), ("host", "out0")),
    )
    return Case((stack, own, other), cables, (ask,))


def roundabout(ask: Ask, **host: Any) -> Case:
    """Like :func:`routed`, but that the answers take another way, past the host."""
    case = routed(ask, **host)
    router, guest, far = case.stacks
    guest = replace(guest, links=(*guest.links, Link("eth1", "10.0.6.2/24")))
    far = Stack(
        "far",
        links=(*far.links, Link("eth1", "10.0.6.1/24")),
        routes=("10.0.1.2/32 via 10.0.6.2",),
    )
    cable = Cable(("guest", "eth1"), ("far", "eth1"))
    return Case((router, guest, far), (*case.cables, cable), (ask,))


def fate_of(case: Case) -> str:
    """How the one question of a case ends, once kernel and walk have agreed on it."""
    (fate,) = _agreed(case).fates
    return fate


def fates_of(case: Case) -> tuple[str, str]:
    """How a flow's first packet and a later one end, once kernel and walk have agreed on them."""
    verdict = _agreed(case)
    (first,), (later,) = verdict.fates, verdict.later
    return first, later


def _agreed(case: Case) -> Verdict:
    verdict = judge(case)
    if verdict.complaints:
        verdict = judge(case, PATIENT)  # a machine under load may have been late
    assert not verdict.complaints, "\n".join(verdict.complaints)
    return verdict
