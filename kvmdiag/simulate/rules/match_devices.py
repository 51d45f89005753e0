"""Matches on the devices and bridge ports that a packet comes in and goes out by."""

from __future__ import annotations

from collections.abc import Callable

from kvmdiag.model.matches import BridgedIs, BridgePortIs, InterfaceIs
from kvmdiag.simulate.rules.context import Matcher, Seen
from kvmdiag.simulate.rules.sets import Sets


def named(patterns: tuple[str, ...]) -> Callable[[str | None], bool]:
    """Whether a device has one of the names; a trailing ``*`` stands for any ending."""
    exact = frozenset(name for name in patterns if not name.endswith("*"))
    endings = tuple(name[:-1] for name in patterns if name.endswith("*"))
    if not endings:
        return exact.__contains__
    return lambda name: name is not None and (name in exact or name.startswith(endings))


def interface_is(match: InterfaceIs, _sets: Sets) -> Matcher:
    """Whether a device has one of the names."""
    is_it = named(match.names)
    if match.direction == "in":
        return lambda seen: is_it(seen.in_link)
    return lambda seen: is_it(seen.out_link)


def bridge_port_is(match: BridgePortIs, _sets: Sets) -> Matcher:
    """Whether the frame came in or goes out by a bridge port of one of the names."""
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


def bridged_is(match: BridgedIs, _sets: Sets) -> Matcher:
    """Whether the packet came over a bridge, leaves over one, or both by the same."""
    if match.which == "in":
        return lambda seen: seen.at.in_port is not None
    if match.which == "out":
        return lambda seen: seen.at.out_port is not None
    return lambda seen: seen.at.bridged
