"""Questions to nf_tables over netlink: which generation, which tables, which links.

The first two cost some microseconds and need no program, so they tell whether a program is
needed at all, and whether the ruleset changed while programs read it. On which links chains
hang is what nft of some versions (1.0.6) leaves out of its JSON.
Source: include/uapi/linux/netfilter/nf_tables.h; net/netfilter/nf_tables_api.c.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from kvmdiag.model.netfilter import Family
from kvmdiag.system.modules import is_there

_NETLINK_NETFILTER = 12
_NFTABLES = 10 << 8
_GETTABLE, _GETCHAIN, _GETGEN = 1, 4, 16
_REQUEST, _DUMP = 0x001, 0x300
_ERROR, _DONE = 2, 3
_ATTRIBUTE_ID, _ATTRIBUTE_NAME = 1, 1
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK = 1, 3, 4
_HOOK_DEVICE, _HOOK_DEVICES = 3, 4
_HEADER = struct.Struct("=IHHII")
_FAMILIES: dict[int, Family] = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}

# nft's scanner (src/scanner.l), less what begins a path.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
# What nfnetlink_rcv_msg() answers when no such subsystem is in the kernel.
_ABSENT = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.ENOENT})


def generation() -> int | None:
    """The number of the last change to any ruleset; ``None`` if there is no nf_tables.

    Raises:
        PermissionError: it takes CAP_NET_ADMIN.
        OSError: the kernel did not answer.

    """
    for _family, attributes in _ask(_GETGEN, _REQUEST):
        if _ATTRIBUTE_ID in attributes:
            return int.from_bytes(attributes[_ATTRIBUTE_ID], "big")
    return None


def table_names() -> tuple[tuple[Family, str], ...]:
    """The tables of the calling thread's namespace in the kernel's order, which is nft's.

    Raises as :func:`generation` does.
    """
    return tuple(
        (_FAMILIES[family], _text(attributes[_ATTRIBUTE_NAME]))
        for family, attributes in _ask(_GETTABLE, _REQUEST | _DUMP)
        if family in _FAMILIES and _ATTRIBUTE_NAME in attributes
    )


def is_plain(name: str) -> bool:
    """Whether nft takes it for a name, and for nothing else, when it stands in a command.

    The kernel lets names be anything, and a container's owner may choose one that is a command.
    """
    return _NAME.fullmatch(name) is not None


def chain_devices() -> dict[tuple[Family, str, str], tuple[str, ...]]:
    """The links on which chains hang, by family, table and chain; raises as the others do."""
    found = {}
    for family, attributes in _ask(_GETCHAIN, _REQUEST | _DUMP):
        hook = _attributes(attributes.get(_CHAIN_HOOK, b""))
        names = [value for _, value in _each(hook.get(_HOOK_DEVICES, b""))]
        if not names and _HOOK_DEVICE in hook:
            names = [hook[_HOOK_DEVICE]]
        if names and family in _FAMILIES:
            table, chain = _text(attributes[_CHAIN_TABLE]), _text(attributes[_CHAIN_NAME])
            found[_FAMILIES[family], table, chain] = tuple(map(_text, names))
    return found


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def _ask(kind: int, flags: int) -> Iterator[tuple[int, dict[int, bytes]]]:
    """Family and attributes of each message of the answer."""
    if is_there("nf_tables") is False:
        return  # asking would load it
    body = struct.pack("=BBH", 0, 0, 0)
    request = _HEADER.pack(_HEADER.size + len(body), _NFTABLES | kind, flags, 1, 0) + body
    with _socket() as link:
        if link is None:
            return
        link.send(request)
        while True:
            datagram = link.recv(1 << 16)
            for answer, payload in _messages(datagram):
                if answer == _DONE:
                    return
                if answer == _ERROR:
                    _raise(payload)
                    return
                yield payload[0], _attributes(payload[4:])
            if not flags & _DUMP:
                return


@contextmanager
def _socket() -> Iterator[socket.socket | None]:
    try:
        link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        yield None  # a kernel without netfilter's netlink
        return
    with link:
        link.settimeout(5)
        yield link


def _raise(payload: bytes) -> None:
    code = -struct.unpack_from("=i", payload)[0]
    if code and code not in _ABSENT:
        raise OSError(code, os.strerror(code), "nf_tables")


def _messages(datagram: bytes) -> Iterator[tuple[int, bytes]]:
    while len(datagram) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(datagram)
        if not _HEADER.size <= length <= len(datagram):
            return
        yield kind, datagram[_HEADER.size : length]
        datagram = datagram[_aligned(length) :]


def _attributes(data: bytes) -> dict[int, bytes]:
    return dict(_each(data))


def _each(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if not 4 <= length <= len(data):
            return
        yield kind & 0x3FFF, data[4:length]
        data = data[_aligned(length) :]


def _aligned(length: int) -> int:
    return (length + 3) & ~3
