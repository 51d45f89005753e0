"""Draws tables of rules for one stack, for every backend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from differential.plan import BackendName, Chain, Rule, Table

Draw = Any

_HOOKS_OF = {
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "raw": ("PREROUTING", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
}
_IN = ("prerouting", "input", "forward")
_OUT = ("forward", "output", "postrouting")
_PRIORITIES = (-300, -250, -199, -150, -10, 0, 0, 0, 10, 50, 150)
_NAT_PRIORITIES = {"prerouting": -100, "output": -100, "input": 100, "postrouting": 100}


@dataclass(frozen=True)
class Names:
    """What rules of a stack may speak of."""

    devices: tuple[str, ...]
    ports: tuple[str, ...]
    addresses: tuple[str, ...]
    networks: tuple[str, ...]


@dataclass(frozen=True)
class _Place:
    """Where a rule stands."""

    backend: BackendName
    family: str
    table: str
    hooks: tuple[str, ...]
    """The hooks from which it can be reached, in nft's words."""
    type: str
    calls: tuple[str, ...]
    """Chains it may jump to."""


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
    users = _user_chains(draw, names, _Place(backend, "ip", name, reachable, kind, ()))
    for hook in hooks:
        place = _Place(
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
    place = _Place("nft", family, "t", tuple(chosen), kind, ())
    users = _user_chains(draw, names, place)
    chains = []
    for hook in chosen:
        place = _Place("nft", family, "t", (hook,), kind, tuple(chain.name for chain in users))
        priority = (
            _NAT_PRIORITIES.get(hook, 0) if kind == "nat" else draw(st.sampled_from(_PRIORITIES))
        )
        policy = draw(st.sampled_from(["accept", "accept", "accept", "drop"]))
        if kind == "nat":
            policy = "accept"
        chains.append(Chain(f"on_{hook}", _rules(draw, names, place), hook, kind, priority, policy))
    return Table("nft", family, f"t{number}", (*users, *chains))


def _device_table(draw: Draw, names: Names, number: int) -> Table:
    """A chain that hangs on a link itself, seeing also ARP."""
    device = draw(st.sampled_from([name for name in names.devices if not name.startswith("br")]))
    hook = draw(st.sampled_from(["ingress", "ingress", "egress"]))
    place = _Place("nft", "netdev", "t", (hook,), "filter", ())
    policy = draw(st.sampled_from(["accept", "accept", "accept", "drop"]))
    rules = _rules(draw, names, place)
    chain = Chain("on_device", rules, hook, "filter", 0, policy, device)
    return Table("nft", "netdev", f"t{number}", (chain,))


def _arp_table(draw: Draw, names: Names, number: int) -> Table:
    """What a machine lets through of the questions and answers it gets and gives."""
    hook = draw(st.sampled_from(["input", "output"]))
    kind = "iif" if hook == "input" else "oif"
    rules = tuple(
        Rule(((kind, *_value(draw, names, kind)),), (draw(st.sampled_from(["accept", "drop"])),))
        for _ in range(draw(st.integers(1, 2)))
    )
    policy = draw(st.sampled_from(["accept", "accept", "drop"]))
    chain = Chain("on_arp", rules, hook, "filter", 0, policy)
    return Table("nft", "arp", f"t{number}", (chain,))


def _user_chains(draw: Draw, names: Names, place: _Place) -> tuple[Chain, ...]:
    """Up to two chains; the second may call the first."""
    chains: list[Chain] = []
    for number in range(draw(st.sampled_from([0, 0, 1, 2]))):
        inner = _Place(
            place.backend,
            place.family,
            place.table,
            place.hooks,
            place.type,
            tuple(chain.name for chain in chains),
        )
        chains.append(Chain(f"user{number}", _rules(draw, names, inner)))
    return tuple(chains)


def _rules(draw: Draw, names: Names, place: _Place) -> tuple[Rule, ...]:
    return tuple(_rule(draw, names, place) for _ in range(draw(st.integers(1, 3))))


def _rule(draw: Draw, names: Names, place: _Place) -> Rule:
    does = draw(st.sampled_from(_verdicts(draw, names, place)))
    kinds = _match_kinds(names, place)
    matches: dict[str, tuple[str, str, bool]] = {}
    if does[0] in ("dnat", "redirect") and len(does) > 1 and ":" in " ".join(does):
        proto = draw(st.sampled_from(["tcp", "udp"]))
        matches["l4"] = ("proto", proto, False)
    elif does[0] == "redirect" and len(does) > 1:
        matches["l4"] = ("proto", draw(st.sampled_from(["tcp", "udp"])), False)
    for kind in draw(st.lists(st.sampled_from(kinds), max_size=2, unique=True)):
        slot = "l4" if kind in ("proto", "dport", "sport", "icmp", "syn") else kind
        if slot == "saddr" and "range" in matches:
            continue
        matches.setdefault(slot, (kind, *_value(draw, names, kind)))
    return Rule(tuple(matches.values()), does)


def _verdicts(draw: Draw, names: Names, place: _Place) -> list[tuple[str, ...]]:
    """What rules may do there; likelier things stand there more often."""
    if place.type == "nat":
        return _translations(draw, names, place)
    found: list[tuple[str, ...]] = [("accept",), ("accept",), ("drop",), ("return",), ("count",)]
    found += [(how, chain) for chain in place.calls for how in ("jump", "goto", "jump")]
    nft = place.backend == "nft"
    rejecting = set(place.hooks) <= {"input", "forward", "output"}
    rejecting = rejecting and place.family not in ("bridge", "netdev")
    if rejecting and (place.table == "filter" or nft):
        found.append(("reject",))
    if place.table == "mangle" or nft:
        found += [("mark", "7"), ("mark", "0x10/0xf0")]
    if place.table == "raw":
        found.append(("notrack",))
    return found


def _translations(draw: Draw, names: Names, place: _Place) -> list[tuple[str, ...]]:
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
    if hooks <= {"postrouting"}:
        found += [("masquerade",), ("masquerade",), ("snat", address)]
    if hooks <= {"input"}:
        found += [("snat", address)]
    return found


def _match_kinds(names: Names, place: _Place) -> list[str]:
    found = ["saddr", "daddr", "proto", "dport", "icmp", "syn", "mark", "range"]
    hooks = set(place.hooks)
    if hooks <= set(_IN):
        found += ["iif", "iif"]
    if hooks <= set(_OUT):
        found += ["oif", "oif"]
    if place.family in ("bridge", "netdev"):
        return found
    found += ["state", "state", "sport"]
    if place.table != "raw":
        found.append("local")
    if place.backend != "nft" and names.ports and hooks <= {"forward", "postrouting"}:
        found += ["physout", "bridged"]
    if place.backend != "nft" and names.ports and hooks <= {"forward", "input", "prerouting"}:
        found.append("physin")
    return found


def _value(draw: Draw, names: Names, kind: str) -> tuple[str, bool]:
    """The value of a match, and whether it is negated."""
    places = [*names.addresses, *names.networks]
    values = {
        "saddr": places,
        "daddr": places,
        "range": [f"10.0.{n}.2-10.0.{n}.3" for n in (1, 2)],
        "iif": [*names.devices, "lo", "br+"],
        "oif": [*names.devices, "lo", "v+"],
        "physin": names.ports,
        "physout": names.ports,
        "bridged": [""],
        "proto": ["tcp", "udp", "icmp"],
        "dport": ["tcp 80", "udp 53", "tcp 53", "udp 8080", "tcp 8080"],
        "sport": ["tcp 40000-40999", "udp 1-1023", "udp 53"],
        "icmp": ["echo-request", "echo-reply"],
        "syn": [""],
        "state": [
            "new",
            "established",
            "new,established",
            "invalid",
            "related,established",
            "untracked",
        ],
        "mark": ["7", "0x10/0xf0", "0"],
        "local": ["dst", "src"],
    }[kind]
    return draw(st.sampled_from(values)), draw(st.sampled_from([False, False, False, True]))
