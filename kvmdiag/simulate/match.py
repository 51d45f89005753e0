"""Three-valued matches: true, false, or ``None`` for "cannot be told".

A match is compiled once into a function of what is seen of a packet. The functions made here
answer before negation; :func:`compiled` negates, but for matches on what a packet may not have
(a connection, a code): without it there is no match, negated or not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any

from kvmdiag.model.netfilter import (
    AddressIs,
    AddressTypeIs,
    BridgedIs,
    BridgePortIs,
    ConntrackStateIs,
    FamilyIs,
    FieldIs,
    IcmpTypeIs,
    InSet,
    InterfaceIs,
    MacIs,
    MarkIs,
    Match,
    PortIs,
    ProtocolIs,
    ReverseRouteIs,
    SetContains,
    TcpFlagsAre,
    UnknownMatch,
)
from kvmdiag.model.packet import KERNEL_CHOOSES
from kvmdiag.simulate.context import PROTOCOLS, Seen
from kvmdiag.simulate.fields import ABSENT, FIELDS, UNKNOWN
from kvmdiag.simulate.routes import address_type, reverse_route
from kvmdiag.simulate.sets import SetKey, Sets, set_key

Matcher = Callable[[Seen], bool | None]


# These turn themselves round, and then still match no packet without the field.
_SELF_NEGATING = (FieldIs, InSet, BridgePortIs, ProtocolIs)


def compiled(match: Match, sets: Sets) -> Matcher:
    """The function that says whether ``match`` is true of a packet."""
    matcher = _MAKERS[type(match)](match, sets)
    if isinstance(match, UnknownMatch) or not match.negate:
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
    return lambda _seen: None


@lru_cache(maxsize=65536)
def bounds(text: str) -> tuple[int, int, int] | None:
    """IP version, first and last address (as numbers) of a CIDR or ``first-last``.

    ``None`` when the text is neither.
    """
    try:
        if "-" in text:
            first, last = (ip_address(part) for part in text.split("-"))
            return first.version, int(first), int(last)
        network = ip_network(text, strict=False)
    except ValueError:
        return None
    return network.version, int(network.network_address), int(network.broadcast_address)


def _address(match: AddressIs, sets: Sets) -> Matcher:
    spans = [bounds(text) for text in match.networks]
    known = [span for span in spans if span is not None]
    if len(known) < len(spans):
        return _unknown(match, sets)
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


def named(patterns: tuple[str, ...]) -> Callable[[str | None], bool]:
    """Whether a device has one of the names; a trailing ``*`` stands for any ending."""
    exact = frozenset(name for name in patterns if not name.endswith("*"))
    endings = tuple(name[:-1] for name in patterns if name.endswith("*"))
    if not endings:
        return exact.__contains__
    return lambda name: name is not None and (name in exact or name.startswith(endings))


def _interface(match: InterfaceIs, _sets: Sets) -> Matcher:
    is_it = named(match.names)
    if match.direction == "in":
        return lambda seen: is_it(seen.in_link)
    return lambda seen: is_it(seen.out_link)


def _bridge_port(match: BridgePortIs, _sets: Sets) -> Matcher:
    # physdev_mt: what came over a bridge and does not leave by one has no port to leave by, and
    # then even the negated match is false.
    is_it, negate = named(match.names), match.negate
    if match.direction == "in":
        return lambda seen: is_it(seen.at.in_port) != negate

    def leaves_by(seen: Seen) -> bool:
        at = seen.at
        if at.out_port is None and at.in_port is not None:
            return False
        return is_it(at.out_port) != negate

    return leaves_by


def _bridged(match: BridgedIs, _sets: Sets) -> Matcher:
    if match.which == "in":
        return lambda seen: seen.at.in_port is not None
    if match.which == "out":
        return lambda seen: seen.at.out_port is not None
    return lambda seen: seen.at.bridged


def _family(match: FamilyIs, _sets: Sets) -> Matcher:
    families = frozenset(match.families)
    return lambda seen: seen.family in families


def _protocol(match: ProtocolIs, _sets: Sets) -> Matcher:
    names = {"ipv6-icmp": 58, **PROTOCOLS}
    numbers = frozenset(
        names[text] if text in names else int(text) if text.isdigit() else -1
        for text in match.protocols
    )
    negate = match.negate
    # What has no protocol, ARP, breaks off the rule, negated or not (nft_meta_get_eval).
    return lambda seen: seen.proto >= 0 and (seen.proto in numbers) != negate


def _port(match: PortIs, _sets: Sets) -> Matcher:
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


def _icmp_type(match: IcmpTypeIs, _sets: Sets) -> Matcher:
    def is_it(seen: Seen) -> bool:
        kind, code = seen.packet.icmp_type, seen.packet.icmp_code
        return any(kind == wanted and c in (None, code) for wanted, c in match.types)

    return is_it


def _tcp_flags(match: TcpFlagsAre, _sets: Sets) -> Matcher:
    mask, flags = frozenset(match.mask), frozenset(match.flags)
    return lambda seen: seen.proto == 6 and seen.packet.tcp_flags & mask == flags


def _conntrack_state(match: ConntrackStateIs, _sets: Sets) -> Matcher:
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


def _mark(match: MarkIs, _sets: Sets) -> Matcher:
    mask, value = match.mask, match.value
    if match.of == "packet":
        return lambda seen: seen.mark & mask == value
    negate = match.negate

    def of_connection(seen: Seen) -> bool:
        if seen.tracked is None or seen.tracked.connection is None:
            return False
        return (seen.connection_mark & mask == value) != negate

    return of_connection


def _address_type(match: AddressTypeIs, _sets: Sets) -> Matcher:
    types = frozenset(match.types)

    def is_it(seen: Seen) -> bool:
        address = seen.packet.src if match.side == "src" else seen.packet.dst
        link = {"in": seen.in_link, "out": seen.out_link, None: None}[match.limit]
        return address_type(address, seen.at.view.fib, link) in types

    return is_it


def _reverse_route(match: ReverseRouteIs, _sets: Sets) -> Matcher:
    is_it = named(match.links)

    def leads_back(seen: Seen) -> bool:
        if match.links:
            return is_it(reverse_route(seen, match))
        return reverse_route(seen, match) is not None

    return leads_back


def _mac(match: MacIs, _sets: Sets) -> Matcher:
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


def _field(match: FieldIs, sets: Sets) -> Matcher:
    field = FIELDS.get(match.field)
    if field is None:
        return _unknown(match, sets)
    mask, ranges, negate = match.mask, match.ranges, match.negate

    def is_it(seen: Seen) -> bool | None:
        value = field.get(seen)
        if value is ABSENT:
            return False
        if value is UNKNOWN or not isinstance(value, int):
            return None
        number = value if mask is None else value & mask
        return any(first <= number <= last for first, last in ranges) != negate

    return is_it


def _in_set(match: InSet, sets: Sets) -> Matcher:
    made = sets.lookup(match.fields, match.name, match.elements, lambda _text: True)
    if made is None:
        return _unknown(match, sets)
    look_up: Matcher = made[0]
    if match.name is not None:
        look_up = _unless_added(look_up, set_key(sets, match.name, ipset=False))
    return _negated_lookup(match, look_up) if match.negate else look_up


def _unless_added(look_up: Matcher, key: SetKey) -> Matcher:
    """What a set says; what is not in it may be by now if a rule has added to it."""

    def answer(seen: Seen) -> bool | None:
        found = look_up(seen)
        return None if found is False and key in seen.added_to else found

    return answer


def _negated_lookup(match: InSet, lookup: Matcher) -> Matcher:
    getters = [FIELDS[field].get for field in match.fields]

    def is_not(seen: Seen) -> bool | None:
        if any(get(seen) is ABSENT for get in getters):
            return False
        found = lookup(seen)
        return None if found is None else not found

    return is_not


def _set_contains(match: SetContains, sets: Sets) -> Matcher:
    look_up = sets.ipset(match.name, match.fields)
    if look_up is None:
        return _unknown(match, sets)
    return _unless_added(look_up, set_key(sets, match.name, ipset=True))


_MAKERS: dict[type[Any], Callable[[Any, Sets], Matcher]] = {
    AddressIs: _address,
    AddressTypeIs: _address_type,
    BridgePortIs: _bridge_port,
    BridgedIs: _bridged,
    ConntrackStateIs: _conntrack_state,
    FamilyIs: _family,
    FieldIs: _field,
    IcmpTypeIs: _icmp_type,
    InSet: _in_set,
    InterfaceIs: _interface,
    MacIs: _mac,
    MarkIs: _mark,
    PortIs: _port,
    ProtocolIs: _protocol,
    ReverseRouteIs: _reverse_route,
    SetContains: _set_contains,
    TcpFlagsAre: _tcp_flags,
    UnknownMatch: _unknown,
}
