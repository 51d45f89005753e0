"""Where a route leads that names but the number of a nexthop object.

Source: net/ipv4/nexthop.c (valid_group_nh), Documentation/networking/ip-sysctl.rst
(nexthop_compat_mode).
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from kvmdiag.model.stack import NextHop, NexthopObject

BLACKHOLE = "blackhole"


class UnresolvedNextHop(ValueError):  # noqa: N818 - a state of the kernel, not a fault of ours
    """A route says only the number of a nexthop object, and where that leads is not known."""


def resolved(number: int, objects: Mapping[int, NexthopObject]) -> tuple[str, tuple[NextHop, ...]]:
    """The type and the ways out of a route that uses that object.

    Raises:
        UnresolvedNextHop: it is not among ``objects``, or is what the kernel does not allow.

    """
    found = _known(number, objects)
    if not found.group:
        return _single(found)
    hops: list[NextHop] = []
    for member, weight in found.group:
        one = _known(member, objects)
        if one.group:
            raise UnresolvedNextHop(f"nexthop object {number} is a group of groups")
        kind, ways = _single(one)
        if kind == BLACKHOLE:
            # A group of a hole has nothing else in it.
            return BLACKHOLE, ()
        hops += (replace(way, weight=weight) for way in ways)
    return "unicast", tuple(hops)


def _known(number: int, objects: Mapping[int, NexthopObject]) -> NexthopObject:
    found = objects.get(number)
    if found is None:
        raise UnresolvedNextHop(f"a route uses nexthop object {number}, which is not told")
    return found


def _single(one: NexthopObject) -> tuple[str, tuple[NextHop, ...]]:
    if one.blackhole:
        return BLACKHOLE, ()
    return "unicast", () if one.next_hop is None else (one.next_hop,)
