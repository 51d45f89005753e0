"""Chains and handles of tables whose rules iptables explains, straight from the kernel.

nft takes seconds and megabytes of JSON to say of 50,000 such rules what is needed of them:
their handles. Source: include/uapi/linux/netfilter/nf_tables.h; net/netfilter/nf_tables_api.c.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from typing import Any, Literal, get_args

from kvmdiag.collect.attributes import Layout, big_endian, decode, nest, text
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
_RULE: Layout = {1: ("table", text), 2: ("chain", text), 3: ("handle", big_endian)}
_HOOKS: tuple[HookName, ...] = ("prerouting", "input", "forward", "output", "postrouting")
_TYPES: Mapping[str, Literal["filter", "nat", "route"]] = {
    name: name for name in get_args(Literal["filter", "nat", "route"])
}
_DROP = 0


def skeleton(names: Collection[Key]) -> tuple[Table, ...] | None:
    """The tables with their chains, and with rules that are nothing but handles.

    ``None`` when there is more to them than iptables makes: sets, hooks of another kind.

    Raises:
        OSError: the kernel did not answer.

    """
    tables: list[Table] = []
    with Netlink(NETFILTER) as kernel:
        for family in FAMILIES:
            own = sorted(name for f, name in names if f == family)
            if not own:
                continue
            header = _HEADER.pack(FAMILIES[family], 0, 0)
            if kernel.dump(_GETSET, header):
                return None
            chains: dict[str, list[Mapping[str, Any]]] = {name: [] for name in own}
            rules: dict[tuple[str, str], list[Rule]] = {}
            for message in kernel.dump(_GETCHAIN, header):
                found = decode(message, _CHAIN, _HEADER.size)
                chains.setdefault(found["table"], []).append(found)
            for message in kernel.dump(_GETRULE, header):
                found = decode(message, _RULE, _HEADER.size)
                rule = Rule(body=(), text="", handle=found["handle"])
                rules.setdefault((found["table"], found["chain"]), []).append(rule)
            for name, several in chains.items():
                made = [_chain(one, rules.get((name, one["name"]), ())) for one in several]
                if any(one is None for one in made):
                    return None
                chain_tuple = tuple(one for one in made if one is not None)
                tables.append(Table(family=family, name=name, backend="nft", chains=chain_tuple))
    return tuple(tables)


def _chain(found: Mapping[str, Any], rules: Collection[Rule]) -> Chain | None:
    hook = found.get("hook")
    if hook is None:
        return Chain(name=found["name"], rules=tuple(rules))
    kind = _TYPES.get(found.get("type", ""))
    if kind is None or hook["number"] >= len(_HOOKS):
        return None
    priority = hook["priority"]
    return Chain(
        name=found["name"],
        rules=tuple(rules),
        hook=_HOOKS[hook["number"]],
        type=kind,
        # Signed, in network order.
        priority=priority - (1 << 32) if priority >> 31 else priority,
        policy="drop" if found.get("policy") == _DROP else "accept",
    )
