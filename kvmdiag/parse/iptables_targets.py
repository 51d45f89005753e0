"""Targets of iptables and what they do to a packet.

Source: iptables-extensions(8); xt_mark.c for the arithmetic of marks. A target, or an option
of one, that is not in the table below becomes an :class:`UnknownStatement` with its text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from kvmdiag.model.netfilter import Family
from kvmdiag.model.statements import (
    Accept,
    AddToSet,
    CopyMark,
    DestinationNat,
    Drop,
    Jump,
    Masquerade,
    NetMap,
    NoEffect,
    NoTrack,
    Redirect,
    Reject,
    Return,
    SetLife,
    SetMark,
    SetZone,
    SourceNat,
    Statement,
    TakeFromSet,
    UnknownStatement,
)
from kvmdiag.parse import values
from kvmdiag.parse.words import Option

Options = Sequence[Option]
Builder = Callable[[str, Options, Family], Statement]

# Value and mask of ``mark = (mark & ~mask) ^ value``, as libxt_MARK.c fills them in.
_MARKS: Mapping[str, Callable[[int, int], tuple[int, int]]] = {
    "--set-xmark": lambda value, mask: (value, mask),
    "--set-mark": lambda value, mask: (value, mask | value),
    "--and-mark": lambda value, _mask: (0, value ^ values.ALL_BITS),
    "--or-mark": lambda value, _mask: (value, value),
    "--xor-mark": lambda value, _mask: (value, 0),
}

# How conntrack chooses among what is allowed, not what is allowed.
_RANDOM = frozenset({"--random", "--random-fully"})
_CHOICE = _RANDOM | {"--persistent"}


def statement(
    name: str, options: Options, family: Family, chains: frozenset[str] | None
) -> Statement:
    """What ``-j name`` with its options does.

    ``chains`` are the chains of the table; ``None`` when they are not known: a name that is
    no target is then taken for a chain.
    """
    text = " ".join(("-j", name, *(option.text for option in options)))
    if chains is not None and name in chains and not options:
        return Jump(chain=name)
    builder = TARGETS.get(name)
    if builder is None:
        is_chain = chains is None and name not in _NOT_UNDERSTOOD and not options
        return Jump(chain=name) if is_chain else UnknownStatement(text=text)
    try:
        return builder(text, options, family)
    except ValueError:
        return UnknownStatement(text=text)


def _bare(found: Statement) -> Builder:
    def builder(_text: str, options: Options, _family: Family) -> Statement:
        _refuse(options)
        return found

    return builder


def _no_effect(text: str, _options: Options, _family: Family) -> Statement:
    return NoEffect(text=text)


def _reject(_text: str, options: Options, family: Family) -> Statement:
    default = "icmp6-port-unreachable" if family == "ip6" else "icmp-port-unreachable"
    return Reject(reply=_only(options, "--reject-with") or default)


def _source_nat(_text: str, options: Options, family: Family) -> Statement:
    first, last, ports = _nat_range(_only(options, "--to-source"), family)
    if first is None:
        msg = "no address"
        raise ValueError(msg)
    return SourceNat(
        first=first,
        last=last,
        ports=ports,
        random=_is_random(options),
        persistent=_is_persistent(options),
    )


def _destination_nat(_text: str, options: Options, family: Family) -> Statement:
    first, last, ports = _nat_range(_only(options, "--to-destination"), family)
    return DestinationNat(
        first=first,
        last=last,
        ports=ports,
        random=_is_random(options),
        persistent=_is_persistent(options),
    )


def _nat_range(
    text: str | None, family: Family
) -> tuple[str | None, str | None, tuple[int, int] | None]:
    """``first-last:port-port``; an IPv6 address with ports stands in brackets."""
    if not text:
        msg = "no address"
        raise ValueError(msg)
    if text.startswith("["):
        addresses, _, rest = text[1:].partition("]")
        ports = rest.removeprefix(":")
    elif family == "ip6":
        addresses, ports = text, ""
    else:
        addresses, _, ports = text.partition(":")
    first, _, last = addresses.partition("-")
    return (
        values.address(first, family) if first else None,
        values.address(last.lstrip("["), family) if last else None,
        values.port_range(ports, "-") if ports else None,
    )


def _masquerade(_text: str, options: Options, _family: Family) -> Statement:
    return Masquerade(ports=_to_ports(options), random=_is_random(options))


def _redirect(_text: str, options: Options, _family: Family) -> Statement:
    return Redirect(ports=_to_ports(options), random=_is_random(options))


def _is_random(options: Options) -> bool:
    return any(option.name in _RANDOM for option in options)


def _is_persistent(options: Options) -> bool:
    return any(option.name == "--persistent" for option in options)


def _to_ports(options: Options) -> tuple[int, int] | None:
    text = _only(options, "--to-ports")
    return values.port_range(text, "-") if text else None


def _set_mark(of: Literal["packet", "connection"]) -> Builder:
    def builder(_text: str, options: Options, _family: Family) -> Statement:
        (option,) = options
        operation = _MARKS.get(option.name)
        if operation is None:
            raise ValueError(option.name)
        value, mask = operation(*values.mark(option.value))
        return SetMark(of=of, value=value, mask=mask)

    return builder


def _connection_mark(text: str, options: Options, family: Family) -> Statement:
    """``CONNMARK``; what copying does is in connmark_tg_shift in net/netfilter/xt_connmark.c."""
    given = {option.name: option for option in options}
    copying = given.keys() & {"--save-mark", "--restore-mark"}
    if not copying:
        return _set_mark("connection")(text, options, family)
    if len(copying) > 1 or given.keys() - {"--nfmask", "--ctmask", "--mask", *copying}:
        raise ValueError(text)
    of_packet, of_connection = (
        values.number(mask.value, values.ALL_BITS) if mask is not None else values.ALL_BITS
        for mask in (given.get(name, given.get("--mask")) for name in ("--nfmask", "--ctmask"))
    )
    if "--save-mark" in copying:
        return CopyMark(to="connection", keep=of_connection ^ values.ALL_BITS, take=of_packet)
    return CopyMark(to="packet", keep=of_packet ^ values.ALL_BITS, take=of_connection)


def _net_map(_text: str, options: Options, family: Family) -> Statement:
    network = _only(options, "--to")
    if network is None:
        msg = "no network"
        raise ValueError(msg)
    return NetMap(network=values.network(network, family))


def _life(_text: str, options: Options, family: Family) -> Statement:
    """``TTL`` of IPv4 and ``HL`` of IPv6: ``--ttl-set``, ``--hl-dec`` ..."""
    (option,) = options
    _, _, change = option.name.rpartition("-")
    value = values.number(option.value, 255)
    signs = {"set": 1, "inc": 1, "dec": -1}
    if change not in signs:
        raise ValueError(option.name)
    of: Literal["ip", "ip6"] = "ip6" if family == "ip6" else "ip"
    return SetLife(family=of, value=signs[change] * value, relative=change != "set")


def _set_target(text: str, options: Options, _family: Family) -> Statement:
    if any(option.name.startswith("--map-") for option in options):
        raise ValueError(text)
    changes = [option for option in options if option.name in _SET_CHANGES]
    if len(changes) != 1 or len(changes[0].values) != 2:
        raise ValueError(text)
    (change,) = changes
    return _SET_CHANGES[change.name](name=change.values[0], ipset=True)


_SET_CHANGES: Mapping[str, type[AddToSet | TakeFromSet]] = {
    "--add-set": AddToSet,
    "--del-set": TakeFromSet,
}


def _ct(text: str, options: Options, _family: Family) -> Statement:
    names = {option.name for option in options}
    if names == {"--notrack"}:
        return NoTrack()
    if names == {"--zone"}:
        return SetZone(zone=values.number(options[0].value, 0xFFFF))
    if names <= {"--helper", "--timeout", "--ctevents", "--expevents"}:
        return NoEffect(text=text)
    raise ValueError(text)


def _only(options: Options, name: str) -> str | None:
    """The value of that option, which stands alone or with such as do not matter."""
    found = [option for option in options if option.name not in _CHOICE]
    _refuse(option for option in found if option.name != name)
    if len(found) > 1:
        msg = f"{name} more than once"
        raise ValueError(msg)
    return found[0].value if found else None


def _refuse(options: Iterable[Option]) -> None:
    for option in options:
        msg = f"{option.text} is not understood"
        raise ValueError(msg)


NO_EFFECT = (
    "AUDIT", "CHECKSUM", "CLASSIFY", "CONNSECMARK", "DSCP", "ECN", "IDLETIMER", "LED", "LOG",
    "NFLOG", "RATEEST", "SECMARK", "TCPMSS", "TCPOPTSTRIP", "TEE", "TOS", "TRACE", "ULOG",
)  # fmt: skip

# Targets of iptables that change the packet or its way in a manner the model does not have.
_NOT_UNDERSTOOD = frozenset({
    "CLUSTERIP", "DNPT", "HMARK", "NFQUEUE", "QUEUE", "SNPT", "SYNPROXY", "TPROXY",
})  # fmt: skip

TARGETS: Mapping[str, Builder] = {
    "ACCEPT": _bare(Accept()),
    "DROP": _bare(Drop()),
    "RETURN": _bare(Return()),
    "NOTRACK": _bare(NoTrack()),
    "REJECT": _reject,
    "SNAT": _source_nat,
    "DNAT": _destination_nat,
    "MASQUERADE": _masquerade,
    "REDIRECT": _redirect,
    "MARK": _set_mark("packet"),
    "CONNMARK": _connection_mark,
    "CT": _ct,
    "NETMAP": _net_map,
    "SET": _set_target,
    "TTL": _life,
    "HL": _life,
    **dict.fromkeys(NO_EFFECT, _no_effect),
}
"""Targets by name."""
