"""Matches on addresses: their numbers, their kind, and the way back to them."""

from __future__ import annotations

from kvmdiag.model.matches import AddressIs, AddressTypeIs, ReverseRouteIs
from kvmdiag.simulate.facts.addresses import bounds
from kvmdiag.simulate.rules.context import Matcher, Seen, cannot_tell
from kvmdiag.simulate.rules.fields import FIELDS
from kvmdiag.simulate.rules.match_devices import named
from kvmdiag.simulate.rules.routes import address_type, reverse_route
from kvmdiag.simulate.rules.sets import Sets


def address_is(match: AddressIs, _sets: Sets) -> Matcher:
    """Whether an address of the packet, or of its connection, is in one of the networks."""
    spans = [bounds(text) for text in match.networks]
    known = [span for span in spans if span is not None]
    if len(known) < len(spans):
        return cannot_tell
    if match.of != "packet":
        return _connection_address(match, known)
    if len(known) == 1:
        ((version, first, last),) = known
        if match.side == "src":
            return lambda seen: first <= seen.src <= last and seen.version == version
        return lambda seen: first <= seen.dst <= last and seen.version == version
    source = match.side == "src"

    def within(seen: Seen) -> bool:
        number, mine = seen.src if source else seen.dst, seen.version
        return any(version == mine and first <= number <= last for version, first, last in known)

    return within


def _connection_address(match: AddressIs, spans: list[tuple[int, int, int]]) -> Matcher:
    name = "saddr" if match.side == "src" else "daddr"
    getters = {
        version: FIELDS[f"ct {match.of} {family} {name}"].get
        for version, family in ((4, "ip"), (6, "ip6"))
    }

    def within(seen: Seen) -> bool:
        version = seen.version
        number = getters[version](seen)
        if not isinstance(number, int):
            return False
        return match.negate != any(
            v == version and first <= number <= last for v, first, last in spans
        )

    return within


def address_type_is(match: AddressTypeIs, _sets: Sets) -> Matcher:
    """Whether an address is of one of the types for this stack (xt_addrtype)."""
    types = frozenset(match.types)

    def is_it(seen: Seen) -> bool:
        address = seen.packet.src if match.side == "src" else seen.packet.dst
        link = {"in": seen.in_link, "out": seen.out_link, None: None}[match.limit]
        return address_type(address, seen.at.view.fib, link) in types

    return is_it


def reverse_route_is(match: ReverseRouteIs, _sets: Sets) -> Matcher:
    """Whether this stack has a way to the source, by one of the links if any are named."""
    is_it = named(match.links)

    def leads_back(seen: Seen) -> bool:
        if match.links:
            return is_it(reverse_route(seen, match))
        return reverse_route(seen, match) is not None

    return leads_back
