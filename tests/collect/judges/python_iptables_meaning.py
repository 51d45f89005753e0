"""What rules of python-iptables mean in the words of the model, option by option.

Source: iptables-extensions(8).
"""

from __future__ import annotations

from collections.abc import Callable

from kvmdiag.model.matches import (
    AddressIs,
    AddressTypeIs,
    BridgePortIs,
    ConntrackStateIs,
    FieldIs,
    IcmpTypeIs,
    InterfaceIs,
    MacIs,
    MarkIs,
    PortIs,
    ProtocolIs,
    TcpFlagsAre,
    UnknownMatch,
)
from kvmdiag.model.statements import (
    Accept,
    DestinationNat,
    Drop,
    Goto,
    Jump,
    Masquerade,
    NoEffect,
    Redirect,
    Reject,
    Return,
    SetLife,
    SetMark,
    SourceNat,
)

_PROTOCOLS = {"ipv6-icmp": "icmpv6", "gre": "47"}


def _ranges(text: str) -> tuple[tuple[int, int], ...]:
    pairs = (one.partition(":") for one in text.split(","))
    return tuple((int(first), int(last or first)) for first, _, last in pairs)


def _ports(side: str) -> Callable[[str, bool], object]:
    return lambda text, no: PortIs(side=side, ranges=_ranges(text), negate=no)


def _span(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    return int(first), int(last or first)


def _masked(text: str) -> dict[str, int]:
    value, _, mask = text.partition("/")
    return {"value": int(value, 0), "mask": int(mask or "0xffffffff", 0)}


def _icmp(text: str, no: bool) -> IcmpTypeIs:
    kind, _, code = text.partition("/")
    return IcmpTypeIs(types=((int(kind), int(code) if code else None),), negate=no)


def _flags(texts: list[str], no: bool) -> TcpFlagsAre:
    mask, flags = (tuple(text.lower().split(",")) for text in texts)
    return TcpFlagsAre(mask=mask, flags=flags, negate=no)


def _states(text: str, no: bool) -> ConntrackStateIs:
    return ConntrackStateIs(states=tuple(text.lower().split(",")), negate=no)


def _words(options: str) -> Callable[[str, bool], object]:
    return lambda text, no: UnknownMatch(text=f"-m {options} {'! ' if no else ''}{text}")


def _interface(direction: str) -> Callable[[str, bool], object]:
    return lambda text, no: InterfaceIs(
        direction=direction, names=(text.replace("+", "*"),), negate=no
    )


def _bridge_port(direction: str) -> Callable[[str, bool], object]:
    return lambda text, no: BridgePortIs(
        direction=direction, names=(text.replace("+", "*"),), negate=no
    )


def _address(side: str) -> Callable[[str, bool], object]:
    return lambda text, no: AddressIs(side=side, networks=(text,), negate=no)


MATCHES: dict[tuple[str, str], Callable[..., object]] = {
    ("", "src"): _address("src"),
    ("", "dst"): _address("dst"),
    ("", "in-interface"): _interface("in"),
    ("", "out-interface"): _interface("out"),
    ("", "protocol"): lambda text, no: ProtocolIs(
        protocols=(_PROTOCOLS.get(text, text),), negate=no
    ),
    ("tcp", "sport"): _ports("src"),
    ("tcp", "dport"): _ports("dst"),
    ("tcp", "tcp-flags"): _flags,
    ("udp", "sport"): _ports("src"),
    ("udp", "dport"): _ports("dst"),
    ("multiport", "sports"): _ports("src"),
    ("multiport", "dports"): _ports("dst"),
    ("icmp", "icmp-type"): _icmp,
    ("icmp6", "icmpv6-type"): _icmp,
    ("conntrack", "ctstate"): _states,
    ("state", "state"): _states,
    ("mark", "mark"): lambda text, no: MarkIs(of="packet", negate=no, **_masked(text)),
    ("connmark", "mark"): lambda text, no: MarkIs(of="connection", negate=no, **_masked(text)),
    ("mac", "mac-source"): lambda text, no: MacIs(side="src", macs=(text.lower(),), negate=no),
    ("addrtype", "dst-type"): lambda text, no: AddressTypeIs(
        side="dst", types=(text.lower(),), negate=no
    ),
    ("physdev", "physdev-in"): _bridge_port("in"),
    ("physdev", "physdev-out"): _bridge_port("out"),
    ("iprange", "src-range"): _address("src"),
    ("iprange", "dst-range"): _address("dst"),
    ("ttl", "ttl-lt"): lambda text, no: FieldIs(
        field="ip ttl", ranges=((0, int(text) - 1),), negate=no
    ),
    ("limit", "limit"): _words("limit --limit"),
}
TARGETS: dict[str, Callable[[dict[str, str]], object]] = {
    "ACCEPT": lambda _: Accept(),
    "DROP": lambda _: Drop(),
    "RETURN": lambda _: Return(),
    "goto": lambda chain: Goto(chain=chain),
    "REJECT": lambda options: Reject(reply=options["reject-with"]),
    "MARK": lambda options: SetMark(of="packet", **_masked(options["set-xmark"])),
    "TTL": lambda options: SetLife(family="ip", value=int(options["ttl-set"])),
    "LOG": lambda options: NoEffect(text=f"-j LOG --log-prefix {options['log-prefix']}"),
    "SNAT": lambda options: SourceNat(first=options["to-source"]),
    "MASQUERADE": lambda options: Masquerade(
        ports=_span(options["to-ports"]) if "to-ports" in options else None
    ),
    "REDIRECT": lambda options: Redirect(ports=_span(options["to-ports"])),
    "DNAT": lambda options: DestinationNat(
        first=options["to-destination"].partition(":")[0],
        ports=_span(options["to-destination"].partition(":")[2])
        if ":" in options["to-destination"]
        else None,
    ),
}


def meaning(rule: dict) -> tuple[set, list]:
    """A rule as python-iptables has it, in the words of the model."""
    rule = dict(rule)
    del rule["counters"]
    rule.pop("comment", None)
    target = rule.pop("target", None)
    asks = set()
    if rule.pop("fragment", False):
        asks.add(FieldIs(field="ip frag-off", ranges=((1, 0x1FFF),), mask=0x1FFF))
    for match, options in rule.items():
        named = (
            {(match, name): value for name, value in options.items()}
            if isinstance(options, dict)
            else {("", match): options}
        )
        asks |= {MATCHES[name](*_negation(value)) for name, value in named.items()}
    return asks, [NoEffect(text="no target") if target is None else _does(target)]


def _negation(value: str | list[str]) -> tuple[str | list[str], bool]:
    """An option's value, and whether a ``!`` stands before it."""
    if isinstance(value, str):
        return value.removeprefix("!"), value.startswith("!")
    if value[0] == "!":
        return (value[1] if len(value) == 2 else value[1:]), True
    return value, False


def _does(target: str | dict) -> object:
    if isinstance(target, str):
        return TARGETS[target]({}) if target in TARGETS else Jump(chain=target)
    ((name, options),) = target.items()
    return TARGETS[name](options)
