"""Matches of iptables whose options mean something together only: addrtype, recent, set ...

Source: iptables-extensions(8). What is not understood becomes an :class:`UnknownMatch`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from kvmdiag.model.matches import (
    AddressTypeIs,
    FieldIs,
    Match,
    OwnerIs,
    ReverseRouteIs,
    SetContains,
    Side,
    UnknownMatch,
)
from kvmdiag.parse.words import Option


def _set_options(options: Sequence[Option]) -> tuple[Match, ...]:
    """``-m set``: counters may be left alone, but a match upon them is not understood.

    What else is asked is part of what ``!`` and ``--return-nomatch`` turn round (ip_set_test).
    """
    asked = [o for o in options if o.name not in ("--update-counters", "--update-subcounters")]
    first, *others = asked or [Option("")]
    unknown = UnknownMatch(text=" ".join(("-m set", *(option.text for option in options))))
    reversed_ = first.negate or any(option.name == "--return-nomatch" for option in others)
    if first.name != "--match-set" or len(first.values) != 2 or (others and reversed_):
        return (unknown,)
    name, fields = first.values
    contains = SetContains(name=name, fields=tuple(fields.split(",")), negate=first.negate)
    return (contains, unknown) if others else (contains,)


def _reverse_path(options: Sequence[Option]) -> tuple[Match, ...]:
    """``-m rpfilter``: true of packets that pass the test, unless inverted."""
    names = {option.name for option in options}
    if names - {"--loose", "--validmark", "--accept-local", "--invert"}:
        return (UnknownMatch(text=" ".join(("-m rpfilter", *(o.text for o in options)))),)
    return (
        ReverseRouteIs(
            strict="--loose" not in names,
            mark="--validmark" in names,
            accept_local="--accept-local" in names,
            negate="--invert" in names,
        ),
    )


def _absent(field: str) -> Callable[[Sequence[Option]], tuple[Match, ...]]:
    """A header that none of our packets has: without it there is no match, negated or not."""
    return lambda _options: (FieldIs(field=field, ranges=()),)


def _counted(_options: Sequence[Option]) -> tuple[Match, ...]:
    """``-m nfacct`` counts, and is true of every packet."""
    return ()


def _recent(options: Sequence[Option]) -> tuple[Match, ...]:
    """``-m recent --set`` notes the packet and is true; the others ask what was noted."""
    asking = {"--rcheck", "--update", "--remove"}
    if any(o.name == "--set" and not o.negate for o in options) and not any(
        o.name in asking for o in options
    ):
        return ()
    return (UnknownMatch(text=" ".join(("-m recent", *(o.text for o in options)))),)


def _owner(options: Sequence[Option]) -> tuple[Match, ...]:
    """``-m owner``: who a packet without a socket matches depends on whether all is negated."""
    text = " ".join(("-m owner", *(option.text for option in options)))
    return (OwnerIs(text=text, negate=all(option.negate for option in options)),)


def _address_type(options: Sequence[Option]) -> tuple[Match, ...]:
    """``-m addrtype``, where one option restricts what another one means."""
    limits: dict[str, Literal["in", "out"]] = {"--limit-iface-in": "in", "--limit-iface-out": "out"}
    sides: dict[str, Side] = {"--src-type": "src", "--dst-type": "dst"}
    limit = next((limits[option.name] for option in options if option.name in limits), None)
    found: list[Match] = []
    for option in options:
        if option.name in sides and len(option.values) == 1:
            types = tuple(option.value.lower().split(","))
            side = sides[option.name]
            found.append(
                AddressTypeIs(side=side, types=types, limit=limit, negate=option.negate),
            )
        elif option.name not in limits:
            found.append(UnknownMatch(text=f"-m addrtype {option.text}"))
    return tuple(found)


TOGETHER: Mapping[str, Callable[[Sequence[Option]], tuple[Match, ...]]] = {
    "addrtype": _address_type,
    "dst": _absent("exthdr"),
    "frag": _absent("exthdr"),
    "hbh": _absent("exthdr"),
    "mh": _absent("exthdr"),
    "nfacct": _counted,
    "owner": _owner,
    "rt": _absent("exthdr"),
    "recent": _recent,
    "rpfilter": _reverse_path,
    "set": _set_options,
}
"""Extensions by name."""
