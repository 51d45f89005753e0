"""Asking the kernel by rtnetlink: whole dumps of the calling thread's network namespace.

Each dump stands alone: one that the kernel refuses becomes a failure with its reason, and the
others are there. Source: rtnetlink(7), net/core/rtnetlink.c, net/bridge/br_netlink.c.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from kvmdiag.collect.kernel.attributes import attribute, decode, signed
from kvmdiag.system.netlink import Netlink

_GETLINK, _GETADDR, _GETROUTE, _GETNEIGH, _GETRULE = 18, 22, 26, 30, 34
_GETQDISC, _GETTFILTER, _GETMDB, _GETNSID, _GETSTATS, _GETNEXTHOP = 38, 46, 86, 90, 94, 106

_LINK_HEADER = struct.Struct("=BxHiII")
_ADDRESS_HEADER = struct.Struct("=BBBBi")
_ROUTE_HEADER = struct.Struct("=8BI")
_NEIGHBOUR_HEADER = struct.Struct("=BxxxiHBB")
_STATS_HEADER = struct.Struct("=BxxxiI")
_BRIDGE_PORT_HEADER = struct.Struct("=Bxxxi")
_NEXTHOP_HEADER = struct.Struct("=BBBxI")
_TC_HEADER = struct.Struct("=BxxxiIII")

_EXT_MASK = 29
_EXT_VF, _EXT_BRIDGE_VLANS, _EXT_SKIP_STATS = 0x01, 0x04, 0x08
_STATS_LINK_64 = 1
_NTF_PROXY = 0x08
_NETNSA_NSID, _NETNSA_FD = 1, 3
_V4, _V6, _BRIDGE = socket.AF_INET, socket.AF_INET6, socket.AF_BRIDGE
# What a kernel says that was built without IPv6, bridges, nexthop objects or traffic control.
_ABSENT = (errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT)


class _Question(NamedTuple):
    """A dump: its message, and the family that the answers must have (0 for any)."""

    kind: int
    family: int
    body: bytes
    optional: bool = False


def _links(family: int, mask: int) -> bytes:
    return _LINK_HEADER.pack(family, 0, 0, 0, 0) + attribute(_EXT_MASK, struct.pack("=I", mask))


def _neighbours(family: int, flags: int = 0) -> bytes:
    return _NEIGHBOUR_HEADER.pack(family, 0, 0, flags, 0)


def _routes(family: int) -> bytes:
    return _ROUTE_HEADER.pack(family, *bytes(7), 0)


_QUESTIONS: Mapping[str, tuple[_Question, ...]] = {
    "link": (_Question(_GETLINK, 0, _links(0, _EXT_VF | _EXT_SKIP_STATS)),),
    "stats": (_Question(_GETSTATS, 0, _STATS_HEADER.pack(0, 0, 1 << _STATS_LINK_64 - 1)),),
    "address": tuple(
        _Question(_GETADDR, family, _ADDRESS_HEADER.pack(family, 0, 0, 0, 0), family == _V6)
        for family in (_V4, _V6)
    ),
    "route": tuple(_Question(_GETROUTE, f, _routes(f), f == _V6) for f in (_V4, _V6)),
    "rule": tuple(_Question(_GETRULE, f, _routes(f), f == _V6) for f in (_V4, _V6)),
    "neighbour": tuple(_Question(_GETNEIGH, f, _neighbours(f), f == _V6) for f in (_V4, _V6)),
    "proxy": tuple(
        _Question(_GETNEIGH, f, _neighbours(f, _NTF_PROXY), f == _V6) for f in (_V4, _V6)
    ),
    "fdb": (_Question(_GETNEIGH, _BRIDGE, _neighbours(_BRIDGE), optional=True),),
    "bridge vlan": (
        _Question(_GETLINK, _BRIDGE, _links(_BRIDGE, _EXT_BRIDGE_VLANS), optional=True),
    ),
    # Its answers do not name their family.
    "mdb": (_Question(_GETMDB, 0, _BRIDGE_PORT_HEADER.pack(_BRIDGE, 0), optional=True),),
    "nexthop": (_Question(_GETNEXTHOP, 0, _NEXTHOP_HEADER.pack(0, 0, 0, 0), optional=True),),
    "qdisc": (_Question(_GETQDISC, 0, _TC_HEADER.pack(0, 0, 0, 0, 0), optional=True),),
}


@dataclass(frozen=True)
class Dumps:
    """What the kernel said, by kind; for a kind it did not tell, the reason."""

    messages: Mapping[str, tuple[bytes, ...]]
    failures: Mapping[str, str]


def read_dumps() -> Dumps:
    """All dumps of the calling thread's namespace; one that fails does not stop the others.

    Their names: link, stats, address, route, rule, neighbour, proxy, fdb, bridge vlan, mdb,
    nexthop and qdisc.
    """
    messages: dict[str, tuple[bytes, ...]] = {}
    failures: dict[str, str] = {}
    try:
        with Netlink() as kernel:
            for name, questions in _QUESTIONS.items():
                try:
                    messages[name] = tuple(
                        message for asked in questions for message in _answers(kernel, asked)
                    )
                except OSError as error:
                    why = error.strerror or str(error)
                    failures[name] = f"the kernel did not answer the {name} dump: {why}"
    except OSError as error:
        return Dumps({}, dict.fromkeys(_QUESTIONS, f"no netlink socket: {error.strerror}"))
    return Dumps(messages, failures)


def read_filters(hooks: Iterable[tuple[int, int]]) -> dict[tuple[int, int], list[bytes]]:
    """The tc filters of each (link index, parent handle); raises OSError."""
    found = {}
    with Netlink() as kernel:
        for index, parent in hooks:
            body = _TC_HEADER.pack(0, index, 0, parent, 0)
            try:
                found[index, parent] = kernel.dump(_GETTFILTER, body)
            except OSError as error:
                # The qdisc has gone since, or is of a kind that has no filters.
                if error.errno not in (errno.ENODEV, errno.EINVAL, errno.ENOENT, *_ABSENT):
                    raise
    return found


def namespace_ids(descriptors: Iterable[int]) -> dict[int, int]:
    """The id (IFLA_LINK_NETNSID) the calling thread's namespace has for others, by descriptor.

    Those without an id are left out. Asking makes none (RTM_GETNSID, net_namespace.c).
    """
    found: dict[int, int] = {}
    with Netlink() as kernel:
        for descriptor in descriptors:
            body = bytes(4) + attribute(_NETNSA_FD, struct.pack("=i", descriptor))
            try:
                answers = kernel.ask(_GETNSID, body)
            except OSError:
                continue
            for answer in answers:
                nsid = decode(answer, {_NETNSA_NSID: ("nsid", signed)}, 4).get("nsid", -1)
                if nsid >= 0:
                    found[descriptor] = nsid
    return found


def _answers(kernel: Netlink, asked: _Question) -> list[bytes]:
    try:
        answers = kernel.dump(asked.kind, asked.body)
    except OSError as error:
        if asked.optional and error.errno in _ABSENT:
            return []
        raise
    # A family the kernel does not know is answered with those it knows.
    return [answer for answer in answers if asked.family in (0, answer[0])]
