"""Three-valued evaluation of matches: true, false, or ``None`` for "cannot be told".

Each function answers whether its match, before negation, is true of a packet at a hook.
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
    IcmpTypeIs,
    InterfaceIs,
    MacIs,
    MarkIs,
    Match,
    PortIs,
    ProtocolIs,
    Ranges,
    SetContains,
    TcpFlagsAre,
    UnknownMatch,
)
from kvmdiag.model.packet import IPAddress
from kvmdiag.simulate.context import Context
from kvmdiag.simulate.fib import Flow

_NUMBERS = {"icmp": "1", "tcp": "6", "udp": "17", "icmpv6": "58", "ipv6-icmp": "58"}


def holds(match: Match, at: Context) -> bool | None:
    """Whether ``match`` is true at this hook; ``None`` when it cannot be told."""
    truth = _EVALUATORS[type(match)](match, at)
    if truth is None or isinstance(match, UnknownMatch):
        return None
    return truth != match.negate


def _address(match: AddressIs, at: Context) -> bool | None:
    address = at.packet.src if match.side == "src" else at.packet.dst
    number = int(address)
    for text in match.networks:
        span = bounds(text)
        if span is None:
            return None
        version, first, last = span
        if version == address.version and first <= number <= last:
            return True
    return False


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


def _named(name: str | None, patterns: tuple[str, ...]) -> bool:
    if name is None:
        return False
    return any(
        name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
        for pattern in patterns
    )


def _interface(match: InterfaceIs, at: Context) -> bool:
    return _named(at.in_link if match.direction == "in" else at.out_link, match.names)


def _bridge_port(match: BridgePortIs, at: Context) -> bool:
    return _named(at.in_port if match.direction == "in" else at.out_port, match.names)


def _bridged(match: BridgedIs, at: Context) -> bool:
    if match.which == "in":
        return at.in_port is not None
    if match.which == "out":
        return at.out_port is not None
    return at.bridged


def _family(match: FamilyIs, at: Context) -> bool:
    return at.packet.family in match.families


def _protocol(match: ProtocolIs, at: Context) -> bool:
    mine = at.packet.proto
    number = _NUMBERS[mine]
    return any(_NUMBERS.get(name, name) == number for name in match.protocols)


def _within(port: int | None, ranges: Ranges) -> bool:
    return port is not None and any(first <= port <= last for first, last in ranges)


def _port(match: PortIs, at: Context) -> bool:
    if at.packet.proto not in ("tcp", "udp"):
        return False
    source = _within(at.packet.sport, match.ranges)
    destination = _within(at.packet.dport, match.ranges)
    return {"src": source, "dst": destination, "any": source or destination}[match.side]


def _icmp_type(match: IcmpTypeIs, at: Context) -> bool:
    kind, code = at.packet.icmp_type, at.packet.icmp_code
    return any(kind == wanted and c in (None, code) for wanted, c in match.types)


def _tcp_flags(match: TcpFlagsAre, at: Context) -> bool:
    if at.packet.proto != "tcp":
        return False
    return at.packet.tcp_flags & set(match.mask) == set(match.flags)


def _conntrack_state(match: ConntrackStateIs, at: Context) -> bool | None:
    if at.state is None:
        # Conntrack is registered by the very rule that asks, so this is only reached for
        # families and hooks in which it does not run; there is no connection to ask about.
        return False if at.family in ("ip", "ip6", "inet") else None
    return at.state in match.states or bool(at.statuses & set(match.states))


def _mark(match: MarkIs, at: Context) -> bool:
    mark = at.packet.mark if match.of == "packet" else at.connection_mark
    return mark & match.mask == match.value


def address_type(address: IPAddress, at: Context, link: str | None) -> str:
    """The kernel's type of an address (``inet_addr_type``): local, unicast, broadcast ...

    With ``link``, only what is on that link counts (``inet_dev_addr_type``).
    """
    if address.is_multicast:
        return "multicast"
    found = at.view.fib.lookup(Flow(dst=address))
    if found is None:
        return "unreachable" if address.version == 6 else "unicast"
    if found.route.type == "unicast" or (link is not None and found.hop.link != link):
        return "unicast"
    return found.route.type


def _address_type(match: AddressTypeIs, at: Context) -> bool:
    address = at.packet.src if match.side == "src" else at.packet.dst
    link = {"in": at.in_link, "out": at.out_link, None: None}[match.limit]
    return address_type(address, at, link) in match.types


def _mac(match: MacIs, at: Context) -> bool | None:
    mac = at.src_mac if match.side == "src" else at.dst_mac
    if mac is None:
        return None
    if any("/" in wanted for wanted in match.macs):
        return None
    return mac.lower() in {wanted.lower() for wanted in match.macs}


def _unknown(match: Match, at: Context) -> None:
    """A match whose truth cannot be told from what the snapshot holds."""


_EVALUATORS: dict[type[Any], Callable[[Any, Context], bool | None]] = {
    AddressIs: _address,
    AddressTypeIs: _address_type,
    BridgePortIs: _bridge_port,
    BridgedIs: _bridged,
    ConntrackStateIs: _conntrack_state,
    FamilyIs: _family,
    IcmpTypeIs: _icmp_type,
    InterfaceIs: _interface,
    MacIs: _mac,
    MarkIs: _mark,
    PortIs: _port,
    ProtocolIs: _protocol,
    SetContains: _unknown,
    TcpFlagsAre: _tcp_flags,
    UnknownMatch: _unknown,
}
