"""Chains and handles of tables whose rules iptables explains, straight from the kernel.

nft takes seconds and megabytes of JSON to say of 50,000 such rules what is needed of them:
their handles. Source: include/uapi/linux/netfilter/nf_tables.h; net/netfilter/nf_tables_api.c.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

from kvmdiag.collect.kernel.attributes import Layout, attribute, big_endian, decode, nest, text
from kvmdiag.model.netfilter import Chain, Family, HookName, Rule, Table
from kvmdiag.system.netlink import NETFILTER, Netlink

Key = tuple[Family, str]

FAMILIES: Mapping[Family, int] = {"ip": 2, "ip6": 10}
"""Those in which iptables makes tables, with their numbers."""

_NFTABLES = 10 << 8
_GETCHAIN, _GETRULE, _GETSET = _NFTABLES | 4, _NFTABLES | 7, _NFTABLES | 10
_HEADER = struct.Struct("=BBH")
_HOOK: Layout = {1: ("number", big_endian), 2: ("priority", big_endian)}
_CHAIN: Layout = {
    1: ("table", text),
    3: ("name", text),
    4: ("hook", nest(_HOOK)),
    5: ("policy", big_endian),
    7: ("type", text),
}
_RULE: Layout = {3: ("handle", big_endian)}
_SET: Layout = {1: ("table", text)}
_HOOKS: tuple[HookName, ...] = ("prerouting", "input", "forward", "output", "postrouting")
_TYPES: Mapping[str, Literal["filter", "nat", "route"]] = {
    name: name for name in get_args(Literal["filter", "nat", "route"])
}
_DROP = 0


def skeletons(names: Iterable[Key]) -> dict[Key, Table]:
    """The tables with their chains, and with rules that are nothing but handles.

    Those are left out that have more to them than iptables makes: sets, hooks of another kind.

    Raises:
        OSError: the kernel did not answer.
        LookupError: it answered something else.

    """
    found: dict[Key, Table] = {}
    with Netlink(NETFILTER) as kernel:
        for family in FAMILIES:
            wanted = {name for f, name in names if f == family}
            if not wanted:
                continue
            header = _HEADER.pack(FAMILIES[family], 0, 0)
            sets = kernel.dump(_GETSET, header)
            wanted -= {decode(one, _SET, _HEADER.size).get("table", "") for one in sets}
            chains: dict[str, list[Chain | None]] = {name: [] for name in wanted}
            for message in kernel.dump(_GETCHAIN, header):
                told = decode(message, _CHAIN, _HEADER.size)
                if told["table"] in wanted:
                    rules = _rules(kernel, header, told["table"], told["name"])
                    chains[told["table"]].append(_chain(told, rules))
            for name, several in chains.items():
                known = tuple(one for one in several if one is not None)
                if len(known) == len(several):
                    found[family, name] = Table(
                        family=family, name=name, backend="nft", chains=known
                    )
    return found


def _rules(kernel: Netlink, header: bytes, table: str, chain: str) -> tuple[Rule, ...]:
    """The rules of one chain.

    For each part of an answer the kernel goes through the rules from the beginning again, so
    that asking for those of all chains at once takes three times as long where there are many.
    """
    where = b"".join(
        attribute(kind, name.encode("utf-8", "surrogateescape") + b"\0")
        for kind, name in ((1, table), (2, chain))
    )
    return tuple(
        Rule(body=(), text="", handle=decode(message, _RULE, _HEADER.size)["handle"])
        for message in kernel.each(_GETRULE, header + where)
    )


def _chain(found: Mapping[str, Any], rules: tuple[Rule, ...]) -> Chain | None:
    hook = found.get("hook")
    if hook is None:
        return Chain(name=found["name"], rules=rules)
    kind = _TYPES.get(found.get("type", ""))
    if kind is None or hook["number"] >= len(_HOOKS):
        return None
    priority = hook["priority"]
    return Chain(
        name=found["name"],
        rules=rules,
        hook=_HOOKS[hook["number"]],
        type=kind,
        # Signed, in network order.
        priority=priority - (1 << 32) if priority >> 31 else priority,
        policy="drop" if found.get("policy") == _DROP else "accept",
    )
