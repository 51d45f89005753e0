"""Named sets, maps and ipsets of a table, ready for lookups.

Sources: nft(8); ipset(8), net/netfilter/ipset/ip_set_hash_gen.h and ip_set_list_set.c.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import TypeVar

from kvmdiag.model.netfilter import NamedSet
from kvmdiag.model.packet import KERNEL_CHOOSES
from kvmdiag.parse import values
from kvmdiag.simulate.rules.context import PROTOCOLS, Seen
from kvmdiag.simulate.rules.elements import Elements
from kvmdiag.simulate.rules.field import ABSENT, UNKNOWN, Getter, Value
from kvmdiag.simulate.rules.fields import FIELDS
from kvmdiag.simulate.rules.spans import Span

T = TypeVar("T")
Lookup = Callable[[Seen], T | bool | None]
"""What was found; ``False`` when nothing was, ``None`` when that cannot be told."""

_DEEPEST = 4


SetKey = tuple[object, str]
"""Names a set: the sets of its table, or ``None`` for an ipset, and its name."""


def set_key(sets: Sets, name: str, *, ipset: bool) -> SetKey:
    """What a set is called that rules add to while a packet passes."""
    return None if ipset else sets, name


class Sets:
    """The sets of one table by name; what cannot be looked up is ``None``."""

    def __init__(self, named: Sequence[NamedSet]) -> None:
        self._named = {entry.name: entry for entry in named}
        self._made: dict[tuple[str, tuple[str, ...]], object] = {}

    def lookup(
        self,
        fields: tuple[str, ...],
        name: str | None,
        elements: tuple[str, ...],
        value: Callable[[str], T],
    ) -> tuple[Lookup[T], Elements[T]] | None:
        """A lookup by the packet's fields, and all that it may find.

        ``value`` turns the text behind `` : `` into what an element of a map stands for.
        """
        if name is None:
            return _lookup(fields, elements, value)
        if name not in self._named:
            return None
        key = (name, fields)
        if key not in self._made:
            self._made[key] = _lookup(fields, self._named[name].elements, value)
        return self._made[key]  # type: ignore[return-value]  # made with the same value

    def elements(self, name: str | None, inline: tuple[str, ...]) -> tuple[str, ...] | None:
        """The texts of a set's elements; ``None`` if there is no such set."""
        if name is None:
            return inline
        found = self._named.get(name)
        return None if found is None else found.elements

    def ipset(self, name: str, sides: tuple[str, ...], depth: int = 0) -> Lookup[bool] | None:
        """Whether an ipset has the packet's fields, each of the source or the destination."""
        found = self._named.get(name)
        if found is None or depth > _DEEPEST:
            return None
        key = (name, ("ipset", *sides))
        if key not in self._made:
            self._made[key] = (
                self._list(found, sides, depth)
                if found.type == "list:set"
                else _ipset(found, sides)
            )
        return self._made[key]  # type: ignore[return-value]  # likewise

    def _list(self, found: NamedSet, sides: tuple[str, ...], depth: int) -> Lookup[bool]:
        members = [self.ipset(name.split()[0], sides, depth + 1) for name in found.elements]

        def search(seen: Seen) -> bool | None:
            answers = [member(seen) if member is not None else None for member in members]
            if True in answers:
                return True
            return None if None in answers else False

        return search


def _lookup(
    fields: tuple[str, ...], texts: Sequence[str], value: Callable[[str], T]
) -> tuple[Lookup[T], Elements[T]] | None:
    """``None`` when a field or an element is not understood."""
    if any(field not in FIELDS for field in fields):
        return None
    described = [FIELDS[field] for field in fields]
    elements: Elements[T] = Elements([field.bits for field in described])
    try:
        for text in texts:
            key, _, behind = text.partition(" : ")
            parts = key.split(" . ")
            spans = [f.span(part) for f, part in zip(described, parts, strict=True)]
            elements.add(spans, value(behind))
    except (ValueError, KeyError):
        return None
    return _search([field.get for field in described], elements), elements


def _search(getters: Sequence[Getter], elements: Elements[T]) -> Lookup[T]:
    return lambda seen: elements.look_up(get(seen) for get in getters)


# -- ipsets ---------------------------------------------------------------------------------


def _ipset(found: NamedSet, sides: tuple[str, ...]) -> Lookup[bool] | None:
    """A lookup in a set of any type but list:set; ``None`` if its type is not understood."""
    kinds = found.type.partition(":")[2].split(",")
    if found.type == "bitmap:port":
        kinds = ["any port"]
    if not kinds[0] or len(sides) < len(kinds) or any(kind not in _DIMENSIONS for kind in kinds):
        return None
    version = 6 if any(_is_v6(text) for text in found.elements[:1]) else 4
    sides = ("src", *sides[1:]) if kinds == ["ip", "mac"] and len(sides) == 1 else sides
    getters = [_DIMENSIONS[kind](side) for kind, side in zip(kinds, sides, strict=False)]
    bits = [_bits(kind, version) for kind in kinds]
    elements: Elements[str] = Elements(bits)
    try:
        for text in found.elements:
            words = text.split()
            spans = [_span(k, p) for k, p in zip(kinds, words[0].split(","), strict=True)]
            elements.add(spans, "nomatch" if "nomatch" in words else "match")
    except (ValueError, KeyError):
        return None
    has_exceptions = "nomatch" in set(elements.values())

    def search(seen: Seen) -> bool | None:
        if seen.version != version and {"ip", "net"} & set(kinds):
            return False
        answer = elements.look_up(get(seen) for get in getters)
        if answer is None or (has_exceptions and answer and len(kinds) > 1):
            return None  # which of two elements is the more specific depends on the set's type
        return answer == "match"

    return search


def _is_v6(text: str) -> bool:
    return text.split(",")[0].count(":") > 1


def _bits(kind: str, version: int) -> int:
    if kind in ("ip", "net"):
        return 32 if version == 4 else 128
    return {"port": 24, "any port": 16, "mac": 48, "mark": 32, "iface": 0}[kind]


def _span(kind: str, text: str) -> Span:
    if kind in ("ip", "net"):
        if "-" in text:
            first, last = (int(ip_address(part)) for part in text.split("-"))
            return first, last
        return FIELDS["ip saddr"].parse(text)
    if kind == "port":
        return _port_span(text)
    if kind == "any port":
        return FIELDS["th dport"].parse(text)
    if kind == "mac":
        return FIELDS["ether saddr"].parse(text.lower())
    if kind == "mark":
        return FIELDS["meta mark"].parse(text)
    if text.startswith("physdev:"):
        raise ValueError(text)
    return values.interface(text)


def _port_span(text: str) -> Span:
    """``tcp:80``, ``80`` (of tcp) or ``icmp:echo-request``, as protocol << 16 | port."""
    name, found, port = text.rpartition(":")
    protocol = values.protocol(name) if found else "tcp"
    number = PROTOCOLS.get(protocol) or int(protocol)
    if protocol in ("icmp", "icmpv6"):
        kind, code = (
            map(int, port.split("/"))
            if "/" in port
            else values.icmp_type(port, v6=protocol == "icmpv6")
        )
        first = last = kind << 8 | (code or 0)
    else:
        ends = port.split("-")
        first, last = values.number(ends[0], 65535), values.number(ends[-1], 65535)
    return number << 16 | first, number << 16 | last


def _address_of(side: str) -> Getter:
    return lambda seen: seen.src if side == "src" else seen.dst


def _port_of(side: str) -> Getter:
    """The protocol and port; of ICMP its type and code (ip_set_get_ip4_port)."""

    def get(seen: Seen) -> Value:
        packet = seen.packet
        if packet.proto in ("icmp", "icmpv6"):
            if packet.icmp_type is None:
                return UNKNOWN
            return seen.proto << 16 | packet.icmp_type << 8 | (packet.icmp_code or 0)
        port = seen.sport if side == "src" else seen.dport
        if port == KERNEL_CHOOSES:
            return UNKNOWN
        return ABSENT if port is None else seen.proto << 16 | port

    return get


def _link_of(side: str) -> Getter:
    field = FIELDS["iifname" if side == "src" else "oifname"]
    return field.get


def _mac_of(side: str) -> Getter:
    return FIELDS["ether saddr" if side == "src" else "ether daddr"].get


def _mark_of(_side: str) -> Getter:
    return FIELDS["meta mark"].get


def _any_port_of(side: str) -> Getter:
    """A port of TCP or UDP; what else has ports is in no such set (ip_set_get_ip_port)."""
    port = FIELDS["th sport" if side == "src" else "th dport"].get
    return lambda seen: port(seen) if seen.proto in _WITH_PORTS else ABSENT


_WITH_PORTS = (PROTOCOLS["tcp"], PROTOCOLS["udp"])
_DIMENSIONS: dict[str, Callable[[str], Getter]] = {
    "ip": _address_of,
    "net": _address_of,
    "port": _port_of,
    "any port": _any_port_of,
    "iface": _link_of,
    "mac": _mac_of,
    "mark": _mark_of,
}
