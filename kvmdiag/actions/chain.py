"""The one chain of a stack that an action changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from msgspec.structs import replace

from kvmdiag.model.netfilter import Backend, Chain, Family, Rule, Table
from kvmdiag.model.snapshot import Snapshot


class Place(NamedTuple):
    """A chain, by what tells it from all others of its stack."""

    stack: str
    family: Family
    table: str
    backend: Backend
    chain: str

    def found(self, snapshot: Snapshot) -> Chain | None:
        """The chain, if it is there."""
        tables = filter(self.is_in, snapshot.stack(self.stack).tables or ())
        return next((chain for table in tables if (chain := table.chain(self.chain))), None)

    def changed(self, snapshot: Snapshot, change: Callable[[Chain], Chain]) -> Snapshot:
        """The snapshot with the chain changed; as it is where the chain was not read."""
        if self.found(snapshot) is None:
            return snapshot
        stack = snapshot.stack(self.stack)
        tables = tuple(
            self._changed(table, change) if self.is_in(table) else table
            for table in stack.tables or ()
        )
        return snapshot.with_stack(replace(stack, tables=tables))

    def is_in(self, table: Table) -> bool:
        """Whether a table is that of the chain."""
        wanted = (self.family, self.table, self.backend)
        return (table.family, table.name, table.backend) == wanted

    def _changed(self, table: Table, change: Callable[[Chain], Chain]) -> Table:
        chains = tuple(change(c) if c.name == self.chain else c for c in table.chains)
        return replace(table, chains=chains)


def with_rule(chain: Chain, rule: Rule, position: int | None = 0) -> Chain:
    """The chain with a rule before the one at ``position`` (from 0), or at its end."""
    at = len(chain.rules) if position is None else position
    return replace(chain, rules=(*chain.rules[:at], rule, *chain.rules[at:]))
