"""Matches of iptables: the options of each extension and what they mean.

Source: iptables(8), iptables-extensions(8). An option or an extension that is not in the
tables below becomes an :class:`UnknownMatch` with its text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from kvmdiag.model.matches import (
    AddressIs,
    BridgedIs,
    BridgePortIs,
    ConntrackStateIs,
    IcmpTypeIs,
    InterfaceIs,
    MacIs,
    MarkIs,
    Match,
    PortIs,
    ProtocolIs,
    Side,
    TcpFlagsAre,
    UnknownMatch,
)
from kvmdiag.model.netfilter import Family
from kvmdiag.parse import values
from kvmdiag.parse.iptables_fields import (
    Builder,
    connection_address,
    connection_port,
    connection_status,
    direction,
    dscp,
    exactly,
    field,
    fragment,
    greater,
    length,
    less,
    packet_type,
    service_type,
)
from kvmdiag.parse.iptables_joint_matches import TOGETHER
from kvmdiag.parse.words import Option

_TCP_FLAGS = ("fin", "syn", "rst", "psh", "ack", "urg")


def build(builder: Builder, option: Option, family: Family) -> Match | None:
    """What the option means, or the unknown match that it is."""
    try:
        return builder(option, family)
    except ValueError:
        return UnknownMatch(text=option.text)


def extension(name: str, options: Sequence[Option], family: Family) -> tuple[Match, ...]:
    """What ``-m name`` with its options means."""
    together = TOGETHER.get(name)
    if together is not None:
        return together(options)
    known = EXTENSIONS.get(name)
    if known is None or (not options and name not in _IDLE_WITHOUT_OPTIONS):
        words = ("-m", name) if name else ()
        return (UnknownMatch(text=" ".join((*words, *(o.text for o in options)))),)
    found = (
        build(known[option.name], option, family)
        if option.name in known
        else UnknownMatch(text=f"-m {name} {option.text}")
        for option in options
    )
    return tuple(match for match in found if match is not None)


def _address(side: Side) -> Builder:
    def builder(option: Option, family: Family) -> Match | None:
        networks = tuple(values.network(part, family) for part in option.value.split(","))
        if not option.negate and any(net.endswith("/0") for net in networks):
            return None
        return AddressIs(side=side, networks=networks, negate=option.negate)

    return builder


def _device(kind: type[InterfaceIs | BridgePortIs], direction: Literal["in", "out"]) -> Builder:
    def builder(option: Option, _family: Family) -> Match:
        names = (values.interface(option.value),)
        return kind(direction=direction, names=names, negate=option.negate)

    return builder


def _protocol(option: Option, _family: Family) -> Match | None:
    if option.value in ("all", "0") and not option.negate:
        return None
    return ProtocolIs(protocols=(values.protocol(option.value),), negate=option.negate)


def _ports(side: Literal["src", "dst", "any"]) -> Builder:
    def builder(option: Option, _family: Family) -> Match:
        ranges = values.port_ranges(option.value)
        return PortIs(side=side, ranges=ranges, negate=option.negate)

    return builder


def _tcp_flags(option: Option, _family: Family) -> Match:
    mask, flags = (_flags(text) for text in option.values)
    return TcpFlagsAre(mask=mask, flags=flags, negate=option.negate)


def _flags(text: str) -> tuple[str, ...]:
    names = text.lower().split(",")
    if names == ["all"]:
        return _TCP_FLAGS
    if names == ["none"]:
        return ()
    if not set(names) <= set(_TCP_FLAGS):
        msg = f"unknown flags {text}"
        raise ValueError(msg)
    return tuple(names)


def _syn(option: Option, _family: Family) -> Match:
    mask = ("fin", "syn", "rst", "ack")
    return TcpFlagsAre(mask=mask, flags=("syn",), negate=option.negate)


def _icmp(option: Option, family: Family) -> Match | None:
    # 255 is how iptables stores "any".
    if option.value in ("any", "255") and family == "ip" and not option.negate:
        return None
    kind = values.icmp_type(option.value, v6=family == "ip6")
    return IcmpTypeIs(types=(kind,), negate=option.negate)


def _states(option: Option, _family: Family) -> Match:
    states = tuple(option.value.lower().split(","))
    if not set(states) <= {
        "new", "established", "related", "invalid", "untracked", "snat", "dnat",
    }:  # fmt: skip
        msg = f"unknown states {option.value}"
        raise ValueError(msg)
    return ConntrackStateIs(states=states, negate=option.negate)


def _mark(of: Literal["packet", "connection"]) -> Builder:
    def builder(option: Option, _family: Family) -> Match:
        value, mask = values.mark(option.value)
        return MarkIs(of=of, value=value, mask=mask, negate=option.negate)

    return builder


def _bridged(which: Literal["in", "out", "bridged"]) -> Builder:
    return lambda option, _family: BridgedIs(which=which, negate=option.negate)


def _mac(option: Option, _family: Family) -> Match:
    return MacIs(side="src", macs=(option.value.lower(),), negate=option.negate)


def _address_range(side: Side) -> Builder:
    def builder(option: Option, family: Family) -> Match:
        networks = (values.address_range(option.value, family),)
        return AddressIs(side=side, networks=networks, negate=option.negate)

    return builder


def _always(_option: Option, _family: Family) -> None:
    """A comment, which matches every packet."""


def _aliases(*pairs: tuple[str, Builder]) -> Mapping[str, Builder]:
    """Options by name, where ``a|b`` are two names of one."""
    return {name: builder for names, builder in pairs for name in names.split("|")}


GENERAL = _aliases(
    ("-s|--source|--src", _address("src")),
    ("-d|--destination|--dst", _address("dst")),
    ("-i|--in-interface", _device(InterfaceIs, "in")),
    ("-o|--out-interface", _device(InterfaceIs, "out")),
    ("-p|--protocol|--proto", _protocol),
    ("-f|--fragment", fragment),
)
"""Options that need no extension."""

_SPORT = ("--sport|--source-port", _ports("src"))
_DPORT = ("--dport|--destination-port", _ports("dst"))

EXTENSIONS: Mapping[str, Mapping[str, Builder]] = {
    "tcp": _aliases(_SPORT, _DPORT, ("--tcp-flags", _tcp_flags), ("--syn", _syn)),
    "udp": _aliases(_SPORT, _DPORT),
    "multiport": _aliases(
        ("--sports|--source-ports", _ports("src")),
        ("--dports|--destination-ports", _ports("dst")),
        ("--ports", _ports("any")),
    ),
    "icmp": _aliases(("--icmp-type", _icmp)),
    "icmp6": _aliases(("--icmpv6-type", _icmp)),
    "conntrack": _aliases(
        ("--ctstate", _states),
        ("--ctstatus", connection_status),
        ("--ctproto", _protocol),
        ("--ctdir", direction),
        ("--ctorigsrc", connection_address("original", "src")),
        ("--ctorigdst", connection_address("original", "dst")),
        ("--ctreplsrc", connection_address("reply", "src")),
        ("--ctrepldst", connection_address("reply", "dst")),
        ("--ctorigsrcport", connection_port("ct original proto-src")),
        ("--ctorigdstport", connection_port("ct original proto-dst")),
        ("--ctreplsrcport", connection_port("ct reply proto-src")),
        ("--ctrepldstport", connection_port("ct reply proto-dst")),
    ),
    "state": _aliases(("--state", _states)),
    "mark": _aliases(("--mark", _mark("packet"))),
    "connmark": _aliases(("--mark", _mark("connection"))),
    "physdev": _aliases(
        ("--physdev-in", _device(BridgePortIs, "in")),
        ("--physdev-out", _device(BridgePortIs, "out")),
        ("--physdev-is-in", _bridged("in")),
        ("--physdev-is-out", _bridged("out")),
        ("--physdev-is-bridged", _bridged("bridged")),
    ),
    "mac": _aliases(("--mac-source", _mac)),
    "iprange": _aliases(
        ("--src-range", _address_range("src")),
        ("--dst-range", _address_range("dst")),
    ),
    "length": _aliases(("--length", field("meta length", length))),
    "ttl": _aliases(
        ("--ttl-eq", field("ip ttl", exactly(255))),
        ("--ttl-lt", field("ip ttl", less)),
        ("--ttl-gt", field("ip ttl", greater)),
    ),
    "hl": _aliases(
        ("--hl-eq", field("ip6 hoplimit", exactly(255))),
        ("--hl-lt", field("ip6 hoplimit", less)),
        ("--hl-gt", field("ip6 hoplimit", greater)),
    ),
    "dscp": _aliases(("--dscp|--dscp-class", field("{version} dscp", dscp))),
    "tos": _aliases(("--tos", service_type)),
    "pkttype": _aliases(("--pkt-type", field("meta pkttype", packet_type))),
    "comment": _aliases(("--comment", _always)),
}

_IDLE_WITHOUT_OPTIONS = frozenset({"tcp", "udp", "icmp", "icmp6", "comment"})
