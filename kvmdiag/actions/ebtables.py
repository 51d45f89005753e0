"""Adding ebtables rules."""

from __future__ import annotations

import shlex
from typing import Literal

import msgspec

from kvmdiag.actions.keep import keep
from kvmdiag.model.netfilter import Chain, Table
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.parse.ebtables import parse_rule


class InsertEbtablesRule(msgspec.Struct, frozen=True, kw_only=True):
    """``ebtables -t TABLE -I CHAIN 1 RULE``; ``rule`` as ebtables-save prints it."""

    stack: str
    chain: str
    rule: str
    table: Literal["filter", "nat", "broute"] = "filter"
    disruptive: bool = False

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """In front of all others."""
        del snapshot  # the command does not depend on what was there
        return (*self._program, "-I", self.chain, "1", *shlex.split(self.rule))

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """The same rule deleted by its text."""
        del snapshot
        return (*self._program, "-D", self.chain, *shlex.split(self.rule))

    def persist(self, snapshot: Snapshot) -> str:
        """Ebtables has no file of its own that is read at boot."""
        how = "ebtables-save > FILE, and ebtables-restore < FILE from a systemd unit at boot"
        return keep(snapshot.stack(self.stack), how)

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The chain with the rule in front; tables that were not read stay unread."""
        stack = snapshot.stack(self.stack)
        if stack.tables is None:
            return snapshot
        tables = tuple(self._with_rule(table) for table in stack.tables)
        return snapshot.with_stack(msgspec.structs.replace(stack, tables=tables))

    @property
    def _program(self) -> tuple[str, ...]:
        return ("ebtables",) if self.table == "filter" else ("ebtables", "-t", self.table)

    def _with_rule(self, table: Table) -> Table:
        if (table.family, table.name, table.backend) != ("bridge", self.table, "iptables-nft"):
            return table
        text = f"-A {self.chain} {self.rule}"
        rule = msgspec.structs.replace(parse_rule(text), packets=0, bytes=0)

        def changed(chain: Chain) -> Chain:
            if chain.name != self.chain:
                return chain
            return msgspec.structs.replace(chain, rules=(rule, *chain.rules))

        return msgspec.structs.replace(table, chains=tuple(map(changed, table.chains)))
