"""Three-valued matches: true, false, or ``None`` for "cannot be told".

A match is compiled once into a function of what is seen of a packet. The functions made here
answer before negation; :func:`compiled` negates, but for matches on what a packet may not have
(a connection, a code): without it there is no match, negated or not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvmdiag.model import matches
from kvmdiag.model.packet import KERNEL_CHOOSES
from kvmdiag.simulate.rules import match_addresses, match_devices, match_fields
from kvmdiag.simulate.rules.context import PROTOCOLS, Matcher, Seen, cannot_tell
from kvmdiag.simulate.rules.fields import FIELDS
from kvmdiag.simulate.rules.sets import Sets

# These turn themselves round, and then still match no packet without the field.
_SELF_NEGATING = (
    matches.FieldIs,
    matches.InSet,
    matches.BridgePortIs,
    matches.OwnerIs,
    matches.ProtocolIs,
)


def compiled(match: matches.Match, sets: Sets) -> Matcher:
    """The function that says whether ``match`` is true of a packet."""
    matcher = _MAKERS[type(match)](match, sets)
    if isinstance(match, matches.UnknownMatch) or not match.negate:
        return matcher
    if isinstance(match, _SELF_NEGATING) or getattr(match, "of", "packet") != "packet":
        return matcher  # negated there, for packets that have the field only
    return _negated(matcher)


def _negated(matcher: Matcher) -> Matcher:
    def negated(seen: Seen) -> bool | None:
        truth = matcher(seen)
        return None if truth is None else not truth

    return negated


def _unknown(_match: object, _sets: Sets) -> Matcher:
    return cannot_tell


def _family(match: matches.FamilyIs, _sets: Sets) -> Matcher:
    families = frozenset(match.families)
    return lambda seen: seen.family in families


def _protocol(match: matches.ProtocolIs, _sets: Sets) -> Matcher:
    names = {"ipv6-icmp": 58, **PROTOCOLS}
    numbers = frozenset(
        names[text] if text in names else int(text) if text.isdigit() else -1
        for text in match.protocols
    )
    negate = match.negate
    # What has no protocol, ARP, breaks off the rule, negated or not (nft_meta_get_eval).
    return lambda seen: seen.proto >= 0 and (seen.proto in numbers) != negate


def _port(match: matches.PortIs, _sets: Sets) -> Matcher:
    ranges, side = match.ranges, match.side

    def within(port: int | None) -> bool | None:
        if port == KERNEL_CHOOSES:
            return None
        return port is not None and any(first <= port <= last for first, last in ranges)

    if side == "src":
        return lambda seen: within(seen.sport)
    if side == "dst":
        return lambda seen: within(seen.dport)

    def either(seen: Seen) -> bool | None:
        answers = within(seen.sport), within(seen.dport)
        return True if True in answers else None if None in answers else False

    return either


def _icmp_type(match: matches.IcmpTypeIs, _sets: Sets) -> Matcher:
    def is_it(seen: Seen) -> bool:
        kind, code = seen.packet.icmp_type, seen.packet.icmp_code
        return any(kind == wanted and c in (None, code) for wanted, c in match.types)

    return is_it


def _tcp_flags(match: matches.TcpFlagsAre, _sets: Sets) -> Matcher:
    mask, flags = frozenset(match.mask), frozenset(match.flags)
    return lambda seen: seen.proto == 6 and seen.packet.tcp_flags & mask == flags


def _conntrack_state(match: matches.ConntrackStateIs, _sets: Sets) -> Matcher:
    states = frozenset(match.states)
    asks_status = bool(states & {"snat", "dnat"})

    def is_it(seen: Seen) -> bool | None:
        tracked = seen.tracked
        if tracked is None:
            # Conntrack is registered by the very rule that asks: this is a rule that runs
            # before it, or one of a family in which it does not run.
            if seen.at.family not in ("ip", "ip6"):
                return None
            # xt_conntrack, nft_ct_get_eval: a packet without a connection counts as invalid.
            return ("untracked" if seen.notrack else "invalid") in states
        return tracked.state in states or (asks_status and bool(tracked.statuses & states))

    return is_it


def _mark(match: matches.MarkIs, _sets: Sets) -> Matcher:
    mask, value = match.mask, match.value
    if match.of == "packet":
        return lambda seen: seen.mark & mask == value
    negate = match.negate

    def of_connection(seen: Seen) -> bool:
        if seen.tracked is None or seen.tracked.connection is None:
            return False
        return (seen.connection_mark & mask == value) != negate

    return of_connection


def _mac(match: matches.MacIs, _sets: Sets) -> Matcher:
    spans = []
    for text in match.macs:
        mac, _, mask = text.partition("/")
        bits = int(mask.replace(":", "") or "ffffffffffff", 16)
        spans.append((int(mac.replace(":", ""), 16) & bits, bits))
    get = FIELDS["ether saddr" if match.side == "src" else "ether daddr"].get

    def is_it(seen: Seen) -> bool | None:
        mac = get(seen)
        if not isinstance(mac, int):
            return None
        return any(mac & bits == value for value, bits in spans)

    return is_it


def _owner(match: matches.OwnerIs, _sets: Sets) -> Matcher:
    without_socket = match.negate
    return lambda seen: without_socket if seen.at.own is False else None


_MAKERS: dict[type[Any], Callable[[Any, Sets], Matcher]] = {
    matches.AddressIs: match_addresses.address_is,
    matches.AddressTypeIs: match_addresses.address_type_is,
    matches.BridgePortIs: match_devices.bridge_port_is,
    matches.BridgedIs: match_devices.bridged_is,
    matches.ConntrackStateIs: _conntrack_state,
    matches.FamilyIs: _family,
    matches.FieldIs: match_fields.field_is,
    matches.IcmpTypeIs: _icmp_type,
    matches.InSet: match_fields.in_set,
    matches.InterfaceIs: match_devices.interface_is,
    matches.MacIs: _mac,
    matches.MarkIs: _mark,
    matches.OwnerIs: _owner,
    matches.PortIs: _port,
    matches.ProtocolIs: _protocol,
    matches.ReverseRouteIs: match_addresses.reverse_route_is,
    matches.SetContains: match_fields.set_contains,
    matches.TcpFlagsAre: _tcp_flags,
    matches.UnknownMatch: _unknown,
}
