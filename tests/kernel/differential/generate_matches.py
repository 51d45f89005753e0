"""Draws matches of rules, for every backend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from differential.generate_sets import Names, ipset_match, set_match
from differential.plan import BackendName

Draw = Any

_IN = ("prerouting", "input", "forward")
_OUT = ("forward", "output", "postrouting")
_L4 = ("proto", "dport", "sport", "icmp", "syn", "ports")


@dataclass(frozen=True)
class Place:
    """Where a rule stands."""

    backend: BackendName
    family: str
    table: str
    hooks: tuple[str, ...]
    """The hooks from which it can be reached, in nft's words."""
    type: str
    calls: tuple[str, ...]
    """Chains it may jump to."""
    base: bool = True
    early: bool = False
    """Whether conntrack has not seen the packet yet."""

    @property
    def sees_connections(self) -> bool:
        """Whether there can be conntrack at all."""
        return self.family not in ("bridge", "netdev", "arp")


def match(draw: Draw, names: Names, place: Place, kind: str) -> tuple[str, tuple[str, str, bool]]:
    """A match, and what of the packet it looks at: that is not asked for twice."""
    negated = draw(st.sampled_from([False, False, False, True]))
    if kind == "in":
        ways = [w for w, hooks in (("iif", _IN), ("oif", _OUT)) if set(place.hooks) <= set(hooks)]
        slot, text = set_match(draw, names, ways)
        return slot, (kind, text, negated)
    if kind == "ipset":
        return kind, (kind, ipset_match(draw), negated)
    return "l4" if kind in _L4 else kind, (kind, *value(draw, names, kind))


def match_kinds(names: Names, place: Place) -> list[str]:
    """What may be asked there; likelier things stand there more often."""
    found = ["saddr", "daddr", "proto", "dport", "icmp", "syn", "mark", "range"]
    hooks = set(place.hooks)
    if hooks <= set(_IN):
        found += ["iif", "iif"]
    if hooks <= set(_OUT):
        found += ["oif", "oif"]
    found += ["in", "in", "in"] if place.backend == "nft" else []
    found += ["ipset", "ipset"] if place.backend != "nft" and names.ipsets else []
    if not place.sees_connections:
        return found
    found += ["state", "state", "sport", "ports", "ttl", "ctmark", "ctdir", "ctdst"]
    if hooks <= {"prerouting"} and (place.backend == "nft" or place.table in ("raw", "mangle")):
        found.append("rpfilter")
    if place.table != "raw":
        found.append("local")
    if place.backend != "nft" and names.ports and hooks <= {"forward", "postrouting"}:
        found += ["physout", "bridged"]
    if place.backend != "nft" and names.ports and hooks <= {"forward", "input", "prerouting"}:
        found.append("physin")
    return found


def value(draw: Draw, names: Names, kind: str) -> tuple[str, bool]:
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
        "ports": ["tcp 53,80", "udp 53,8000:8999", "tcp 1:79,8080"],
        "ttl": ["64", "63", "62"],
        "ctmark": ["5", "0"],
        "ctdir": ["original", "reply"],
        "ctdst": names.addresses,
        "rpfilter": ["", "--loose", "--validmark", "--accept-local"],
        "local": ["dst", "src"],
    }[kind]
    return draw(st.sampled_from(values)), draw(st.sampled_from([False, False, False, True]))
