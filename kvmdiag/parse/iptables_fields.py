"""Matches of iptables on numbers of a packet and on its connection's addresses and ports.

Source: iptables-extensions(8). What is not understood raises ``ValueError``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from kvmdiag.model.matches import AddressIs, FieldIs, Match, Ranges, Side
from kvmdiag.model.netfilter import Family
from kvmdiag.parse import values
from kvmdiag.parse.words import Option

# None: true of every packet.
Builder = Callable[[Option, Family], Match | None]


def fragment(option: Option, _family: Family) -> Match:
    """All but the first fragment of a packet (``ip_packet_match``)."""
    return FieldIs(field="ip frag-off", ranges=((1, 0x1FFF),), mask=0x1FFF, negate=option.negate)


def field(template: str, ranges: Callable[[str], Ranges]) -> Builder:
    """A number; ``{version}`` in the field's name stands for ip or ip6."""

    def builder(option: Option, family: Family) -> Match:
        name = template.format(version="ip6" if family == "ip6" else "ip")
        return FieldIs(field=name, ranges=ranges(option.value), negate=option.negate)

    return builder


def exactly(most: int) -> Callable[[str], Ranges]:
    """One number up to ``most``."""
    return lambda text: ((values.number(text, most),) * 2,)


def less(text: str) -> Ranges:
    """Numbers below the one given."""
    return ((0, values.number(text, 255) - 1),)


def greater(text: str) -> Ranges:
    """Numbers above the one given."""
    return ((values.number(text, 255) + 1, 255),)


def length(text: str) -> Ranges:
    """A length or a range of lengths."""
    return (values.port_range(text),)


def dscp(text: str) -> Ranges:
    """A service class by name or number."""
    return ((values.dscp(text),) * 2,)


def packet_type(text: str) -> Ranges:
    """A packet type as the kernel numbers it."""
    types = {"unicast": 0, "host": 0, "broadcast": 1, "multicast": 2, "otherhost": 3}
    if text not in types:
        raise ValueError(text)
    return ((types[text],) * 2,)


def service_type(option: Option, family: Family) -> Match:
    """The type of service or traffic class: ``0x10/0x3f``, or a value alone for all its bits."""
    value, found, mask = option.value.partition("/")
    number = values.number(value, 0xFF)
    bits = values.number(mask, 0xFF) if found else 0xFF
    name = "ip6 tos" if family == "ip6" else "ip tos"
    return FieldIs(field=name, ranges=((number, number),), mask=bits, negate=option.negate)


def connection_status(option: Option, _family: Family) -> Match:
    """Any of several bits of ``enum ip_conntrack_status``."""
    return values.connection_status(option.value.lower().split(","), negate=option.negate)


def connection_address(of: Literal["original", "reply"], side: Side) -> Builder:
    """An address of the connection's original or reply direction."""

    def builder(option: Option, family: Family) -> Match:
        networks = (values.network(option.value, family),)
        return AddressIs(side=side, networks=networks, negate=option.negate, of=of)

    return builder


def connection_port(name: str) -> Builder:
    """A port of the connection."""
    return field(name, lambda text: (values.port_range(text),))


def direction(option: Option, _family: Family) -> Match:
    """The packet's direction in its connection."""
    number = {"ORIGINAL": 0, "REPLY": 1}.get(option.value)
    if number is None:
        raise ValueError(option.value)
    return FieldIs(field="ct direction", ranges=((number, number),), negate=option.negate)
