"""Asking the kernel by rtnetlink: whole dumps of the calling thread's network namespace.

pyroute2 is given an event loop of the calling thread, so its socket is made in that thread's
namespace. Source: rtnetlink(7), netlink(7).
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pyroute2 import AsyncIPRoute
from pyroute2.netlink import NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nlsocket import NetlinkRequest
from pyroute2.netlink.rtnl import (
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETNEIGH,
    RTM_GETROUTE,
    RTM_GETRULE,
)
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

Message = Any
"""A decoded message of pyroute2: fields by name, attributes under ``attrs``."""

_Result = TypeVar("_Result")
_KINDS = {
    "link": (ifinfmsg, RTM_GETLINK),
    "address": (ifaddrmsg, RTM_GETADDR),
    "route": (rtmsg, RTM_GETROUTE),
    "rule": (fibmsg, RTM_GETRULE),
    "neighbour": (ndmsg, RTM_GETNEIGH),
}
_NTF_PROXY = 0x08
_EXT_SKIP_STATS = 0x08
_ATTEMPTS = 5
# A kernel without IPv6 says one of these.
_NO_FAMILY = (errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT)
_HEADER = 16


@dataclass(frozen=True)
class Dumps:
    """What the kernel said, by kind; for a kind it did not tell, the reason."""

    messages: Mapping[str, tuple[Message, ...]]
    failures: Mapping[str, str]


def read_dumps() -> Dumps:
    """All dumps of the calling thread's namespace; one that fails does not stop the others.

    Their names: link, address, route, rule, neighbour, proxy and fdb.
    """
    wanted = {
        "link": ("link", (socket.AF_UNSPEC,), 0),
        "address": ("address", (socket.AF_INET, socket.AF_INET6), 0),
        "route": ("route", (socket.AF_INET, socket.AF_INET6), 0),
        "rule": ("rule", (socket.AF_INET, socket.AF_INET6), 0),
        "neighbour": ("neighbour", (socket.AF_INET, socket.AF_INET6), 0),
        "proxy": ("neighbour", (socket.AF_INET, socket.AF_INET6), _NTF_PROXY),
        "fdb": ("neighbour", (socket.AF_BRIDGE,), 0),
    }

    async def ask(ip: AsyncIPRoute) -> Dumps:
        messages: dict[str, tuple[Message, ...]] = {}
        failures: dict[str, str] = {}
        for name, (kind, families, flags) in wanted.items():
            try:
                answers = [await _dump(ip, kind, family, flags) for family in families]
                messages[name] = tuple(message for answer in answers for message in answer)
            except (NetlinkError, OSError, ValueError) as error:
                failures[name] = f"the kernel did not answer the {name} dump: {error}"
        return Dumps(messages, failures)

    try:
        return _session(ask)
    except OSError as error:
        return Dumps({}, dict.fromkeys(wanted, f"no netlink socket: {error.strerror}"))


def namespace_ids(descriptors: Iterable[int]) -> dict[int, int]:
    """The id (IFLA_LINK_NETNSID) the calling thread's namespace has for others, by descriptor.

    Those without an id are left out. Asking makes none (RTM_GETNSID, net_namespace.c).
    """

    async def ask(ip: AsyncIPRoute) -> dict[int, int]:
        found: dict[int, int] = {}
        for descriptor in descriptors:
            try:
                answer = await ip.get_netnsid(fd=descriptor)
            except (NetlinkError, OSError):
                continue
            # -1: there is no id for it.
            if answer and answer["nsid"] is not None and answer["nsid"] < 1 << 31:
                found[descriptor] = answer["nsid"]
        return found

    return _session(ask)


def attributes(holder: Any) -> dict[str, Any]:
    """The attributes of a message or of a nested attribute by name."""
    return dict(holder["attrs"]) if holder else {}


def raw_attributes(message: Message, header: int) -> dict[int, bytes]:
    """All attributes by number, undecoded: for those pyroute2 does not know yet.

    ``header`` is the size of the family header before the attributes, in bytes.
    """
    start = message.offset + _HEADER + header
    end = message.offset + message["header"]["length"]
    found: dict[int, bytes] = {}
    while start + 4 <= end:
        length, kind = struct.unpack_from("HH", message.data, start)
        if length < 4:
            break
        found[kind & 0x3FFF] = bytes(message.data[start + 4 : start + length])
        start += (length + 3) & ~3
    return found


def _session(ask: Callable[[AsyncIPRoute], Awaitable[_Result]]) -> _Result:
    async def main() -> _Result:
        async with AsyncIPRoute() as ip:
            return await ask(ip)

    # Not asyncio.run(): that meddles with Ctrl-C's handler, and takes as long as a dump to do so.
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(main())
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def _dump(ip: AsyncIPRoute, kind: str, family: int, flags: int) -> list[Message]:
    """One dump, asked again while the kernel says that it changed underway."""
    for _ in range(_ATTEMPTS):
        try:
            answer = await _dump_once(ip, kind, family, flags)
        except (NetlinkError, OSError) as error:
            code = error.code if isinstance(error, NetlinkError) else error.errno
            if code in _NO_FAMILY and family == socket.AF_INET6:
                return []
            raise
        if not any(message["header"]["flags"] & NLM_F_DUMP_INTR for message in answer):
            # A family the kernel does not know is answered with those it knows.
            return [m for m in answer if family == socket.AF_UNSPEC or m["family"] == family]
    raise OSError(errno.EAGAIN, f"it kept changing while it was read, {_ATTEMPTS} times")


async def _dump_once(ip: AsyncIPRoute, kind: str, family: int, flags: int) -> list[Message]:
    layout, request_type = _KINDS[kind]
    message = layout()
    message["family"] = family
    if flags:
        message["flags"] = flags
    if kind == "link":
        message["attrs"].append(("IFLA_EXT_MASK", _EXT_SKIP_STATS))
    request = NetlinkRequest(ip, message, request_type, NLM_F_REQUEST | NLM_F_DUMP)
    await request.send()
    return [answer async for answer in request.response()]
