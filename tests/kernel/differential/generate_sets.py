"""Draws sets and maps of nft and ipsets, with elements that packets may well have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from hypothesis import strategies as st

Draw = Any

_VERDICTS = ["accept", "accept", "drop", "return", "continue"]


@dataclass(frozen=True)
class Names:
    """What rules of a stack may speak of; of ``ipsets`` those that :func:`ipsets` draws."""

    devices: tuple[str, ...]
    ports: tuple[str, ...]
    addresses: tuple[str, ...]
    networks: tuple[str, ...]
    ipsets: bool = False


def named_sets(draw: Draw, names: Names, calls: Sequence[str]) -> tuple[str, ...]:
    """Sets and maps of one table, for :func:`set_match` and :func:`verdict_map` to ask.

    Only base chains may ask the map of verdicts, for it may lead to any chain of ``calls``.
    """
    pairs = ", ".join(
        f"{place} . {port}" for place, port in zip(_places(draw, names), _ports(draw), strict=False)
    )
    return (
        _set("hosts", "ipv4_addr", ", ".join(_places(draw, names))),
        _set("services", "inet_service", ", ".join(_ports(draw))),
        _set("pairs", "ipv4_addr . inet_service", pairs),
        _set("links", "ifname", ", ".join(_devices(draw, names)), interval=False),
        _map("verdicts", "ipv4_addr : verdict", _with_verdicts(draw, _places(draw, names), calls)),
        _map("targets", "inet_service : ipv4_addr", _with_targets(draw, names), interval=False),
    )


def _set(name: str, kind: str, elements: str, *, interval: bool = True) -> str:
    flags = " flags interval;" if interval else ""
    return f"set {name} {{ type {kind};{flags} elements = {{ {elements} }}; }}"


def _map(name: str, kind: str, elements: str, *, interval: bool = True) -> str:
    return _set(name, kind, elements, interval=interval).replace("set", "map", 1)


def set_match(draw: Draw, names: Names, ways: Sequence[str]) -> tuple[str, str]:
    """A match with a set, ``FIELDS|SET``, and what of the packet it looks at.

    ``ways`` are those of iif and oif that there are at the hook.
    """
    proto = draw(st.sampled_from(["tcp", "udp"]))
    side = draw(st.sampled_from(["saddr", "daddr"]))
    ports = ", ".join(_ports(draw))
    pairs = [f"{place} . {port}" for place in _places(draw, names) for port in ("80", "53")]
    services = ", ".join(
        draw(st.lists(st.sampled_from(["tcp . 80", "udp . 53", "tcp . 53", "udp . 8080"]),
                      min_size=1, unique=True))
    )  # fmt: skip
    choices = [
        (side, f"ip {side}|@hosts"),
        (side, f"ip {side}|{{ {', '.join(_places(draw, names))} }}"),
        ("l4", f"{proto} dport|@services"),
        ("l4", f"{proto} dport|{{ {ports} }}"),
        ("l4", f"meta l4proto . th dport|{{ {services} }}"),
        ("l4", f"ip {side} . {proto} dport|@pairs"),
        ("l4", f"ip {side} . {proto} dport|{{ {', '.join(pairs)} }}"),
        ("mark", "meta mark|{ 7, 0x10-0x1f }"),
    ]
    for way in ways:
        devices = ", ".join(_devices(draw, names))
        choices += [(way, f"{way}name|@links"), (way, f"{way}name|{{ {devices} }}")]
        both = ", ".join(f"{name} . {place}" for name in _devices(draw, names)
                         for place in _places(draw, names))  # fmt: skip
        choices.append((way, f"{way}name . ip {side}|{{ {both} }}"))
    return draw(st.sampled_from(choices))  # type: ignore[no-any-return]


def verdict_map(
    draw: Draw, names: Names, calls: Sequence[str], *, base: bool, tracked: bool
) -> tuple[str, str]:
    """``vmap`` and ``FIELDS|MAP``, with verdicts that may lead to chains of ``calls``."""
    side = draw(st.sampled_from(["saddr", "daddr"]))
    proto = draw(st.sampled_from(["tcp", "udp"]))
    places = _with_verdicts(draw, _places(draw, names), calls)
    ports = _with_verdicts(draw, _ports(draw), calls)
    choices = [
        f"ip {side}|{{ {places} }}",
        f"{proto} dport|{{ {ports} }}",
        f"meta l4proto|{{ {_with_verdicts(draw, ['tcp', 'udp', 'icmp'], calls)} }}",
        f"meta mark|{{ {_with_verdicts(draw, ['7', '0x10', '0'], calls)} }}",
    ]
    if base:
        choices.append(f"ip {side}|@verdicts")
    if tracked:
        states = ["new", "established", "invalid", "untracked"]
        choices += 2 * [f"ct state|{{ {_with_verdicts(draw, states, calls)} }}"]
    return "vmap", draw(st.sampled_from(choices))


def translation_map(draw: Draw, names: Names) -> tuple[str, str]:
    """``dnatmap`` and ``FIELDS|MAP``."""
    proto = draw(st.sampled_from(["tcp", "udp"]))
    choices = [f"{proto} dport|@targets", f"{proto} dport|{{ {_with_targets(draw, names)} }}"]
    return "dnatmap", draw(st.sampled_from(choices))


def mark_map(draw: Draw, names: Names) -> tuple[str, str]:
    """``markmap`` and ``FIELDS|MAP``."""
    marked = ", ".join(
        f"{place} : {7 if n else 16}" for n, place in enumerate(_places(draw, names))
    )
    return "markmap", f"ip saddr|{{ {marked} }}"


def ipsets(draw: Draw, names: Names) -> tuple[str, ...]:
    """Lines for ``ipset restore``: three sets, for :func:`ipset_match`."""
    pairs = st.tuples(st.sampled_from(names.addresses), st.sampled_from(["tcp:80", "udp:53"]))
    return (
        "create hosts hash:net family inet",
        *(f"add hosts {place}" for place in _places(draw, names)),
        "create pairs hash:ip,port family inet",
        *(f"add pairs {a},{port}" for a, port in draw(st.lists(pairs, max_size=3, unique=True))),
        "create services bitmap:port range 0-10000",
        *(f"add services {port}" for port in draw(st.lists(st.sampled_from([53, 80, 8080]),
                                                           max_size=2, unique=True))),
    )  # fmt: skip


def ipset_match(draw: Draw) -> str:
    """A set and which of the packet's fields are looked for in it."""
    asked = ["hosts src", "hosts dst", "pairs src,dst", "pairs dst,dst", "services dst"]
    return draw(st.sampled_from(asked))  # type: ignore[no-any-return]


def _places(draw: Draw, names: Names) -> list[str]:
    """Networks and addresses, none within another."""
    networks = draw(st.lists(st.sampled_from(names.networks), max_size=1))
    addresses = draw(
        st.lists(st.sampled_from(names.addresses), min_size=1, max_size=3, unique=True)
    )
    alone = [
        address
        for address in addresses
        if not any(ip_address(address) in ip_network(network) for network in networks)
    ]
    return [*networks, *alone]


def _ports(draw: Draw) -> list[str]:
    """Ports and ranges of ports, none within another."""
    choices = [["53", "80"], ["80"], ["53-80", "8080"], ["8000-8999"], ["1-79", "8080"], ["53"]]
    return list(draw(st.sampled_from(choices)))


def _devices(draw: Draw, names: Names) -> list[str]:
    found = draw(st.lists(st.sampled_from(names.devices), min_size=1, max_size=2, unique=True))
    return [f'"{name}"' for name in found]


def _with_verdicts(draw: Draw, keys: Sequence[str], calls: Sequence[str]) -> str:
    verdicts = [*_VERDICTS, *(f"{how} {chain}" for chain in calls for how in ("jump", "goto"))]
    return ", ".join(f"{key} : {draw(st.sampled_from(verdicts))}" for key in keys)


def _with_targets(draw: Draw, names: Names) -> str:
    return ", ".join(f"{port} : {draw(st.sampled_from(names.addresses))}" for port in (53, 80))
