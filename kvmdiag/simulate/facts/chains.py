"""Base chains in the order in which the kernel runs them."""

from __future__ import annotations

import msgspec

from kvmdiag.model.netfilter import Chain, Family, HookName, Table


class BaseChain(msgspec.Struct, frozen=True):
    """A base chain with the table it belongs to."""

    table: Table
    chain: Chain


def base_chains(tables: tuple[Table, ...], family: Family, hook: HookName) -> tuple[BaseChain, ...]:
    """The chains that see packets of a family at a hook, in the order of priority.

    Of those with one priority the kernel runs the latest first (nf_hook_entries_grow); tables
    are listed in the order in which they were made.
    """
    families = {family, "inet"} if family in ("ip", "ip6") else {family}
    found = [
        BaseChain(table, chain)
        for table in reversed(tables)
        if table.family in families
        for chain in reversed(table.chains)
        if chain.hook == hook
    ]
    return tuple(sorted(found, key=lambda base: base.chain.priority))
