"""Draws tables of rules for one stack, for every backend."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from differential.generate_matches import Place, match, match_kinds, value
from differential.generate_sets import (
    Names,
    mark_map,
    named_sets,
    translation_map,
    verdict_map,
)
from differential.plan import BackendName, Chain, Rule, Table

Draw = Any

_HOOKS_OF = {
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "raw": ("PREROUTING", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
}
_PRIORITIES = (-300, -250, -199, -150, -10, 0, 0, 0, 10, 50, 150)
_CONNTRACK = -200
_NAT_PRIORITIES = {"prerouting": -100, "output": -100, "input": 100, "postrouting": 100}

_TCP_ONLY = ("tcp-reset", "tcp reset")


@st.composite
def tables(draw: Draw, names: Names) -> tuple[Table, ...]:
    """One to three tables; legacy, iptables-nft and native nft may stand side by side."""
    found: dict[tuple[str, str, str], Table] = {}
    for _ in range(draw(st.integers(1, 3))):
        backend = draw(st.sampled_from(["legacy", "iptables", "iptables", "nft", "nft"]))
        if backend == "nft":
            table = _nft_table(draw, names, len(found))
        else:
            table = _iptables_table(draw, names, backend)
        found.setdefault((table.backend, table.family, table.name), table)
    return tuple(found.values())


def _iptables_table(draw: Draw, names: Names, backend: BackendName) -> Table:
    name = draw(st.sampled_from(["filter", "filter", "filter", "nat", "nat", "mangle", "raw"]))
    hooks = draw(st.lists(st.sampled_from(_HOOKS_OF[name]), min_size=1, max_size=2, unique=True))
    kind = "nat" if name == "nat" else "filter"
    reachable = tuple(hook.lower() for hook in hooks)
    chains = []
    users = _user_chains(draw, names, Place(backend, "ip", name, reachable, kind, ()))
    for hook in hooks:
        place = Place(
            backend, "ip", name, (hook.lower(),), kind, tuple(chain.name for chain in users)
        )
        policy = "accept"
        if name == "filter" and draw(st.sampled_from([False, False, True])):
            policy = "drop"
        chains.append(Chain(hook, _rules(draw, names, place), hook.lower(), kind, 0, policy))
    return Table(backend, "ip", name, (*users, *chains))


def _nft_table(draw: Draw, names: Names, number: int) -> Table:
    families = ["ip", "ip", "inet", "inet", "inet", "inet", "netdev", "arp"]
    family = draw(st.sampled_from([*families, *(["bridge"] * 3 if names.ports else [])]))
    if family == "netdev":
        return _device_table(draw, names, number)
    if family == "arp":
        return _arp_table(draw, names, number)
    kind = "filter"
    if family != "bridge":
        kind = draw(st.sampled_from(["filter", "filter", "nat", "route"]))
    hooks = ["prerouting", "input", "forward", "output", "postrouting"]
    if kind == "nat":
        hooks.remove("forward")
    if kind == "route":
        hooks = ["output"]
    count = draw(st.integers(1, 2))
    chosen = draw(st.lists(st.sampled_from(hooks), min_size=1, max_size=count, unique=True))
    priorities = {hook: _priority(draw, kind, hook) for hook in chosen}
    early = max(priorities.values()) < _CONNTRACK
    place = Place("nft", family, "t", tuple(chosen), kind, (), early=early)
    users = _user_chains(draw, names, place)
    chains = []
    for hook, priority in priorities.items():
        place = replace(place, hooks=(hook,), calls=tuple(chain.name for chain in users))
        policy = draw(st.sampled_from(["accept", "accept", "accept", "drop"]))
        if kind == "nat":
            policy = "accept"
        chains.append(Chain(f"on_{hook}", _rules(draw, names, place), hook, kind, priority, policy))
    called = tuple(chain.name for chain in users)
    sets = named_sets(draw, names, called)
    return Table("nft", family, f"t{number}", (*users, *chains), sets)


def _priority(draw: Draw, kind: str, hook: str) -> int:
    if kind == "nat":
        return _NAT_PRIORITIES[hook]
    return int(draw(st.sampled_from(_PRIORITIES)))


def _device_table(draw: Draw, names: Names, number: int) -> Table:
    """A chain that hangs on a link itself, seeing also ARP."""
    device = draw(st.sampled_from([name for name in names.devices if not name.startswith("br")]))
    hook = draw(st.sampled_from(["ingress", "ingress", "egress"]))
    place = Place("nft", "netdev", "t", (hook,), "filter", ())
    policy = draw(st.sampled_from(["accept", "accept", "accept", "drop"]))
    rules = _rules(draw, names, place)
    chain = Chain("on_device", rules, hook, "filter", 0, policy, device)
    return Table("nft", "netdev", f"t{number}", (chain,), named_sets(draw, names, ()))


def _arp_table(draw: Draw, names: Names, number: int) -> Table:
    """What a machine lets through of the questions and answers it gets and gives."""
    hook = draw(st.sampled_from(["input", "output"]))
    kind = "iif" if hook == "input" else "oif"
    rules = tuple(
        Rule(((kind, *value(draw, names, kind)),), (draw(st.sampled_from(["accept", "drop"])),))
        for _ in range(draw(st.integers(1, 2)))
    )
    policy = draw(st.sampled_from(["accept", "accept", "drop"]))
    chain = Chain("on_arp", rules, hook, "filter", 0, policy)
    return Table("nft", "arp", f"t{number}", (chain,))


def _user_chains(draw: Draw, names: Names, place: Place) -> tuple[Chain, ...]:
    """Up to two chains; the second may call the first."""
    chains: list[Chain] = []
    for number in range(draw(st.sampled_from([0, 0, 1, 2]))):
        inner = replace(place, calls=tuple(chain.name for chain in chains), base=False)
        chains.append(Chain(f"user{number}", _rules(draw, names, inner)))
    return tuple(chains)


def _rules(draw: Draw, names: Names, place: Place) -> tuple[Rule, ...]:
    return tuple(_rule(draw, names, place) for _ in range(draw(st.integers(1, 3))))


def _rule(draw: Draw, names: Names, place: Place) -> Rule:
    does = draw(st.sampled_from(_verdicts(draw, names, place)))
    matches: dict[str, tuple[str, str, bool]] = {}
    if "dport|" in does[-1] or "l4proto|" in does[-1]:
        matches["l4"] = ("", "", False)  # the map looks at the protocol itself
    elif does[-1] in _TCP_ONLY:
        matches["l4"] = ("proto", "tcp", False)
    elif does[0] in ("dnat", "redirect") and ("8080" in does[-1]):
        matches["l4"] = ("proto", draw(st.sampled_from(["tcp", "udp"])), False)
    kinds = match_kinds(names, place)
    for kind in draw(st.lists(st.sampled_from(kinds), max_size=2, unique=True)):
        slot, found = match(draw, names, place, kind)
        if slot == "saddr" and "range" in matches:
            continue
        matches.setdefault(slot, found)
    return Rule(tuple(one for one in matches.values() if one[0]), does)


def _verdicts(draw: Draw, names: Names, place: Place) -> list[tuple[str, ...]]:
    """What rules may do there; likelier things stand there more often."""
    if place.type == "nat":
        return _translations(draw, names, place)
    found: list[tuple[str, ...]] = [("accept",), ("accept",), ("drop",), ("return",), ("count",)]
    found += [(how, chain) for chain in place.calls for how in ("jump", "goto", "jump")]
    nft = place.backend == "nft"
    rejecting = set(place.hooks) <= {"input", "forward", "output"}
    rejecting = rejecting and place.family not in ("bridge", "netdev")
    if rejecting and (place.table == "filter" or nft):
        found += [("reject",), _rejection(draw, place)]
    if place.table == "mangle" or nft:
        found += [("mark", "7"), ("mark", "0x10/0xf0")]
        if place.sees_connections and not place.early:
            found += [("ctmark", "5"), ("save",), ("restore",)]
    if place.table == "raw" or (place.early and set(place.hooks) <= {"prerouting", "output"}):
        found.append(("notrack",))
    if nft and place.family != "arp":
        tracked = place.sees_connections
        verdicts = verdict_map(draw, names, place.calls, base=place.base, tracked=tracked)
        found += [verdicts, verdicts, mark_map(draw, names)]
    return found


def _rejection(draw: Draw, place: Place) -> tuple[str, str]:
    if place.backend != "nft":
        replies = ["icmp-host-prohibited", "icmp-admin-prohibited", "tcp-reset"]
    elif place.family == "inet":
        replies = ["icmpx type admin-prohibited", "tcp reset"]
    else:
        replies = ["icmp type host-prohibited", "tcp reset"]
    return "reject", draw(st.sampled_from(replies))


def _translations(draw: Draw, names: Names, place: Place) -> list[tuple[str, ...]]:
    address = draw(st.sampled_from(names.addresses))
    found: list[tuple[str, ...]] = [("accept",), ("return",)]
    found += [("jump", chain) for chain in place.calls]
    hooks = set(place.hooks)
    if hooks <= {"prerouting", "output"}:
        found += [
            ("dnat", address),
            ("dnat", address),
            ("dnat", f"{address}:8080"),
            ("redirect",),
            ("redirect", "8080"),
        ]
        if place.backend == "nft":
            found.append(translation_map(draw, names))
    if place.backend != "nft":
        found.append(("netmap", draw(st.sampled_from(names.networks))))
    if hooks <= {"postrouting"}:
        found += [("masquerade",), ("masquerade",), ("snat", address)]
    if hooks <= {"input"}:
        found += [("snat", address)]
    return found
