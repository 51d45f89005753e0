"""Questions to nf_tables over netlink: which generation, which tables, which links.

The first two cost some microseconds and need no program, so they tell whether a program is
needed at all, and whether the ruleset changed while programs read it. On which links chains
hang is what nft of some versions (1.0.6) leaves out of its JSON.
Source: include/uapi/linux/netfilter/nf_tables.h; net/netfilter/nf_tables_api.c.
"""

from __future__ import annotations

import errno
import re
import struct
from collections.abc import Iterator

from kvmdiag.collect.kernel.attributes import each, text
from kvmdiag.model.netfilter import Family
from kvmdiag.system.modules import is_there
from kvmdiag.system.netlink import NETFILTER, Netlink

_NFTABLES = 10 << 8
_GETTABLE, _GETCHAIN, _GETGEN = 1, 4, 16
_ATTRIBUTE_ID, _ATTRIBUTE_NAME = 1, 1
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK = 1, 3, 4
_HOOK_DEVICE, _HOOK_DEVICES = 3, 4
_HEADER = struct.Struct("=BBH")
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
    for _family, attributes in _ask(_GETGEN, dump=False):
        if _ATTRIBUTE_ID in attributes:
            return int.from_bytes(attributes[_ATTRIBUTE_ID], "big")
    return None


def table_names() -> tuple[tuple[Family, str], ...]:
    """The tables of the calling thread's namespace in the kernel's order, which is nft's.

    Raises as :func:`generation` does.
    """
    return tuple(
        (_FAMILIES[family], text(attributes[_ATTRIBUTE_NAME]))
        for family, attributes in _ask(_GETTABLE, dump=True)
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
    for family, attributes in _ask(_GETCHAIN, dump=True):
        hook = dict(each(attributes.get(_CHAIN_HOOK, b"")))
        names = [value for _, value in each(hook.get(_HOOK_DEVICES, b""))]
        if not names and _HOOK_DEVICE in hook:
            names = [hook[_HOOK_DEVICE]]
        if names and family in _FAMILIES:
            table, chain = text(attributes[_CHAIN_TABLE]), text(attributes[_CHAIN_NAME])
            found[_FAMILIES[family], table, chain] = tuple(map(text, names))
    return found


def _ask(kind: int, *, dump: bool) -> Iterator[tuple[int, dict[int, bytes]]]:
    """Family and attributes of each message of the answer; none without nf_tables."""
    if is_there("nf_tables") is False:
        return  # asking would load it
    try:
        with Netlink(NETFILTER) as kernel:
            question = kernel.dump if dump else kernel.ask
            answers = question(_NFTABLES | kind, _HEADER.pack(0, 0, 0))
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        return
    for answer in answers:
        yield answer[0], dict(each(answer, _HEADER.size))
