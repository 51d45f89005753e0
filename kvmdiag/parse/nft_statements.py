"""Statements of ``nft -j`` and what they do to a packet. Source: libnftables-json(5), nft(8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeGuard

from kvmdiag.model.matches import Match, UnknownMatch
from kvmdiag.model.netfilter import Family
from kvmdiag.model.statements import (
    Accept,
    AddToSet,
    CopyMark,
    DestinationNat,
    Drop,
    Goto,
    Jump,
    Masquerade,
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
    ValueMap,
    VerdictMap,
)
from kvmdiag.parse import values
from kvmdiag.parse.iptables_targets import NO_EFFECT as NO_EFFECT_OF_IPTABLES
from kvmdiag.parse.nft_operands import element_text, fields_of
from kvmdiag.parse.nft_text import render_one

_PLAIN: Mapping[str, Statement] = {
    "accept": Accept(),
    "drop": Drop(),
    "return": Return(),
    "notrack": NoTrack(),
}
_NO_EFFECT = frozenset({
    "continue", "ct expectation", "ct helper", "ct timeout", "dup", "flow", "last", "log",
    "secmark",
})  # fmt: skip
# They stop the rule for some packets and not for others.
_MAY_STOP = frozenset({"limit", "quota", "ct count", "meter"})


def statement(kind: str, inner: object, family: Family) -> Match | Statement:
    """What ``{kind: inner}`` does; what is not understood is kept with its text."""
    text = render_one({kind: inner})
    plain = _PLAIN.get(kind)
    if plain is not None:
        return plain
    if kind == "set" and isinstance(inner, Mapping):
        return _set_change(inner) or UnknownMatch(text=text)
    if kind in _NO_EFFECT or _is_harmless(kind, inner):
        return NoEffect(text=text)
    if kind in _MAY_STOP or (kind == "xt" and _is_xt(inner, "match")):
        return UnknownMatch(text=text)
    try:
        return _detailed(kind, inner if isinstance(inner, Mapping) else {}, family, text)
    except (ValueError, TypeError, KeyError, AttributeError):
        return UnknownStatement(text=text)


def _detailed(kind: str, inner: Mapping[str, object], family: Family, text: str) -> Statement:
    if kind == "jump":
        return Jump(chain=str(inner["target"]))
    if kind == "goto":
        return Goto(chain=str(inner["target"]))
    if kind == "reject":
        return Reject(reply=_reply(inner, family))
    if kind == "masquerade":
        return Masquerade(ports=_ports(inner), random=_is_random(inner))
    if kind in ("redirect", "snat", "dnat"):
        return _translation(kind, inner, family, text)
    if kind == "mangle":
        return _mangle(inner, text)
    if kind == "vmap":
        name, elements = _map_of(inner["data"])
        return VerdictMap(fields=fields_of(inner["key"]), name=name, elements=elements)
    raise ValueError(kind)


def _translation(
    kind: Literal["redirect", "snat", "dnat"] | str,
    inner: Mapping[str, object],
    family: Family,
    text: str,
) -> Statement:
    mapped = [inner[key]["map"] for key in ("addr", "port") if _is_map(inner.get(key))]  # type: ignore[index]
    if mapped:
        if len(mapped) > 1 or len({"addr", "port"} & inner.keys()) > 1:
            raise ValueError(text)
        name, elements = _map_of(mapped[0]["data"])
        fields = fields_of(mapped[0]["key"])
        return ValueMap(action=_ACTIONS[kind], fields=fields, name=name, elements=elements)
    if kind == "redirect":
        return Redirect(ports=_ports(inner), random=_is_random(inner))
    first, last = _addresses(inner, family)
    if kind == "dnat":
        return DestinationNat(
            first=first,
            last=last,
            ports=_ports(inner),
            random=_is_random(inner),
            persistent="persistent" in _flags(inner),
        )
    if first is None:
        raise ValueError(text)
    return SourceNat(
        first=first,
        last=last,
        ports=_ports(inner),
        random=_is_random(inner),
        persistent="persistent" in _flags(inner),
    )


_ACTIONS: Mapping[str, Literal["snat", "dnat", "redirect"]] = {
    "snat": "snat",
    "dnat": "dnat",
    "redirect": "redirect",
}


def _is_map(given: object) -> bool:
    return isinstance(given, Mapping) and "map" in given


def _map_of(data: object) -> tuple[str | None, tuple[str, ...]]:
    """Name and elements of a map, one of which there is."""
    if isinstance(data, str) and data.startswith("@"):
        return data[1:], ()
    if not isinstance(data, Mapping):
        raise TypeError(data)
    return None, tuple(element_text(element) for element in data["set"])


def _set_change(inner: Mapping[str, object]) -> AddToSet | TakeFromSet | None:
    """Adding to a set or taking out of it, with no condition attached."""
    name, kind = str(inner.get("set", "")), _SET_CHANGES.get(str(inner.get("op")))
    if kind is None or "stmt" in inner or not name.startswith("@"):
        return None
    return kind(name=name[1:])


_SET_CHANGES: Mapping[str, type[AddToSet | TakeFromSet]] = {
    "add": AddToSet,
    "update": AddToSet,
    "delete": TakeFromSet,
}


def _is_harmless(kind: str, inner: object) -> bool:
    return kind == "xt" and (
        _is_xt(inner, "watcher")
        or (_is_xt(inner, "match") and inner.get("name") == "comment")
        or (_is_xt(inner, "target") and inner.get("name") in NO_EFFECT_OF_IPTABLES)
    )


def _is_xt(inner: object, kind: str) -> TypeGuard[Mapping[str, object]]:
    return isinstance(inner, Mapping) and inner.get("type") == kind


def _reply(inner: Mapping[str, object], family: Family) -> str:
    default = {"ip": "icmp", "ip6": "icmpv6"}.get(family, "icmpx")
    kind = str(inner.get("type", default))
    if kind == "tcp reset":
        return "tcp-reset"
    prefix = "icmp6" if kind == "icmpv6" else kind
    return f"{prefix}-{inner.get('expr', 'port-unreachable')}"


def _addresses(inner: Mapping[str, object], family: Family) -> tuple[str | None, str | None]:
    if "type_flags" in inner:
        raise ValueError(inner)
    given = inner.get("addr")
    if given is None:
        return None, None
    if isinstance(given, Mapping):
        first, last = given["range"]
        return values.address(first, family), values.address(last, family)
    return values.address(str(given), family), None


def _flags(inner: Mapping[str, object]) -> tuple[str, ...]:
    """``random``, ``fully-random`` and ``persistent``, as far as they were given."""
    given = inner.get("flags", ())
    return (given,) if isinstance(given, str) else tuple(given)  # type: ignore[arg-type]


def _is_random(inner: Mapping[str, object]) -> bool:
    return any("random" in flag for flag in _flags(inner))


def _ports(inner: Mapping[str, object]) -> tuple[int, int] | None:
    given = inner.get("port")
    if given is None:
        return None
    first, last = given["range"] if isinstance(given, Mapping) else (given, given)
    return values.number(str(first), 65535), values.number(str(last), 65535)


_MARKS: tuple[tuple[object, Literal["packet", "connection"]], ...] = (
    ({"meta": {"key": "mark"}}, "packet"),
    ({"ct": {"key": "mark"}}, "connection"),
)
# What may be changed without changing where the packet goes.
_HARMLESS = (
    {"meta": {"key": "nftrace"}},
    {"meta": {"key": "priority"}},
    {"ct": {"key": "label"}},
    {"ct": {"key": "event"}},
    {"payload": {"protocol": "ip", "field": "dscp"}},
    {"payload": {"protocol": "ip6", "field": "dscp"}},
    {"payload": {"protocol": "ip", "field": "ecn"}},
    {"payload": {"protocol": "ip6", "field": "ecn"}},
)
_LIFE: tuple[tuple[object, Literal["ip", "ip6"]], ...] = (
    ({"payload": {"protocol": "ip", "field": "ttl"}}, "ip"),
    ({"payload": {"protocol": "ip6", "field": "hoplimit"}}, "ip6"),
)


def _mangle(inner: Mapping[str, object], text: str) -> Statement:
    key, value = inner["key"], inner["value"]
    alive = next((family for life, family in _LIFE if life == key), None)
    if alive is not None:
        return SetLife(family=alive, value=values.number(str(value), 255))
    if key in _HARMLESS or (isinstance(key, Mapping) and "tcp option" in key):
        return NoEffect(text=text)
    if key == {"ct": {"key": "zone"}}:
        return SetZone(zone=values.number(str(value), 0xFFFF))
    of = next((of for mark, of in _MARKS if mark == key), None)
    if of is None:
        raise ValueError(text)
    if isinstance(value, Mapping) and "map" in value:
        name, elements = _map_of(value["map"]["data"])
        action: Literal["mark", "ct mark"] = "mark" if of == "packet" else "ct mark"
        fields = fields_of(value["map"]["key"])
        return ValueMap(action=action, fields=fields, name=name, elements=elements)
    base, keep, flip = _arithmetic(value, 0)
    if base is None or base == of:
        return SetMark(of=of, value=flip, mask=keep ^ values.ALL_BITS)
    return CopyMark(to=of, take=keep, flip=flip)


def _arithmetic(expression: object, depth: int) -> tuple[str | None, int, int]:
    """``base``, ``keep`` and ``flip`` of ``(base & keep) ^ flip``, what all such comes to.

    ``base`` is the mark of the packet or of the connection; ``None`` without one.
    """
    if depth > 8:
        raise ValueError(depth)
    base = next((of for mark, of in _MARKS if mark == expression), None)
    if base is not None:
        return base, values.ALL_BITS, 0
    if not isinstance(expression, Mapping):
        return None, 0, values.number(str(expression), values.ALL_BITS)
    ((operator, operands),) = expression.items()
    found, keep, flip = _arithmetic(operands[0], depth + 1)
    for operand in operands[1:]:
        number = values.number(str(operand), values.ALL_BITS)
        if operator == "&":
            keep, flip = keep & number, flip & number
        elif operator == "|":
            keep, flip = keep & (number ^ values.ALL_BITS), flip | number
        elif operator == "^":
            flip ^= number
        else:
            raise ValueError(operator)
    return found, keep, flip
