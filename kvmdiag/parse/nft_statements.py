"""Statements of ``nft -j`` and what they do to a packet. Source: libnftables-json(5), nft(8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from kvmdiag.model.netfilter import (
    Accept,
    DestinationNat,
    Drop,
    Family,
    Goto,
    Jump,
    Masquerade,
    Match,
    NoEffect,
    NoTrack,
    Redirect,
    Reject,
    Return,
    SetMark,
    SourceNat,
    Statement,
    UnknownMatch,
    UnknownStatement,
)
from kvmdiag.parse import values
from kvmdiag.parse.nft_text import render_one

_ALL = 0xFFFFFFFF

_PLAIN: Mapping[str, Statement] = {
    "accept": Accept(),
    "drop": Drop(),
    "return": Return(),
    "notrack": NoTrack(),
}
_NO_EFFECT = frozenset({"log", "continue", "dup", "flow", "ct timeout", "ct helper", "secmark"})
# They stop the rule for some packets and not for others.
_MAY_STOP = frozenset({"limit", "quota", "ct count", "meter", "last"})


def statement(kind: str, inner: object, family: Family) -> Match | Statement:
    """What ``{kind: inner}`` does; what is not understood is kept with its text."""
    text = render_one({kind: inner})
    plain = _PLAIN.get(kind)
    if plain is not None:
        return plain
    if kind in _NO_EFFECT or (kind == "set" and _only_adds(inner)):
        return NoEffect(text=text)
    if kind in _MAY_STOP or (kind == "xt" and _is_xt_match(inner)):
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
        return Masquerade(ports=_ports(inner))
    if kind == "redirect":
        return Redirect(ports=_ports(inner))
    if kind == "snat":
        first, last = _addresses(inner, family)
        if first is None:
            raise ValueError(text)
        return SourceNat(first=first, last=last, ports=_ports(inner))
    if kind == "dnat":
        first, last = _addresses(inner, family)
        return DestinationNat(first=first, last=last, ports=_ports(inner))
    if kind == "mangle":
        return _mangle(inner, text)
    raise ValueError(kind)


def _only_adds(inner: object) -> bool:
    return isinstance(inner, Mapping) and "stmt" not in inner


def _is_xt_match(inner: object) -> bool:
    return isinstance(inner, Mapping) and inner.get("type") == "match"


def _reply(inner: Mapping[str, object], family: Family) -> str:
    default = {"ip": "icmp", "ip6": "icmpv6"}.get(family, "icmpx")
    kind = str(inner.get("type", default))
    if kind == "tcp reset":
        return "tcp-reset"
    prefix = "icmp6" if kind == "icmpv6" else kind
    return f"{prefix}-{inner.get('expr', 'port-unreachable')}"


def _addresses(inner: Mapping[str, object], family: Family) -> tuple[str | None, str | None]:
    if "type_flags" in inner:  # prefix, concatenation: a map of addresses
        raise ValueError(inner)
    given = inner.get("addr")
    if given is None:
        return None, None
    if isinstance(given, Mapping):
        first, last = given["range"]
        return values.address(first, family), values.address(last, family)
    return values.address(str(given), family), None


def _ports(inner: Mapping[str, object]) -> tuple[int, int] | None:
    given = inner.get("port")
    if given is None:
        return None
    first, last = given["range"] if isinstance(given, Mapping) else (given, given)
    return values.number(str(first), 65535), values.number(str(last), 65535)


def _mangle(inner: Mapping[str, object], text: str) -> Statement:
    key = inner["key"]
    if key in ({"meta": {"key": "nftrace"}}, {"meta": {"key": "priority"}}):
        return NoEffect(text=text)
    marks: tuple[tuple[object, Literal["packet", "connection"]], ...] = (
        ({"meta": {"key": "mark"}}, "packet"),
        ({"ct": {"key": "mark"}}, "connection"),
    )
    of = next((of for mark, of in marks if mark == key), None)
    if of is None:
        raise ValueError(text)
    keep, value = _arithmetic(inner["value"], key, 0)
    return SetMark(of=of, value=value, mask=keep ^ _ALL)


def _arithmetic(expression: object, mark: object, depth: int) -> tuple[int, int]:
    """``keep`` and ``flip`` of ``(mark & keep) ^ flip``, which every such expression comes to."""
    if depth > 8:
        raise ValueError(depth)
    if expression == mark:
        return _ALL, 0
    if not isinstance(expression, Mapping):
        return 0, values.number(str(expression), _ALL)
    ((operator, operands),) = expression.items()
    keep, flip = _arithmetic(operands[0], mark, depth + 1)
    for operand in operands[1:]:
        number = values.number(str(operand), _ALL)
        if operator == "&":
            keep, flip = keep & number, flip & number
        elif operator == "|":
            keep, flip = keep & (number ^ _ALL), flip | number
        elif operator == "^":
            flip ^= number
        else:
            raise ValueError(operator)
    return keep, flip
