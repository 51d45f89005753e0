"""Changing iptables rules that are there: deleting one, moving one to the front, a policy."""

from __future__ import annotations

import shlex
from typing import Literal

import msgspec

from kvmdiag.actions.keep import keep_rule
from kvmdiag.model.netfilter import Backend, Chain, Rule, Table
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.parse.words import arguments


class _Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where the change is made. ``chain`` is one of the table's."""

    stack: str
    chain: str
    table: str = "filter"
    family: Literal["ip", "ip6"] = "ip"
    backend: Backend = "iptables-nft"

    @property
    def _name(self) -> str:
        name = "ip6tables" if self.family == "ip6" else "iptables"
        return f"{name}-legacy" if self.backend == "iptables-legacy" else name

    @property
    def _program(self) -> tuple[str, ...]:
        return (self._name,) if self.table == "filter" else (self._name, "-t", self.table)

    def _found(self, snapshot: Snapshot) -> Chain | None:
        for table in snapshot.stack(self.stack).tables or ():
            if self._is_in(table):
                return table.chain(self.chain)
        return None

    def _is_in(self, table: Table) -> bool:
        wanted = (self.family, self.table, self.backend)
        return (table.family, table.name, table.backend) == wanted

    def _with(self, snapshot: Snapshot, changed: Chain) -> Snapshot:
        stack = snapshot.stack(self.stack)
        tables = tuple(
            msgspec.structs.replace(
                table,
                chains=tuple(changed if c.name == self.chain else c for c in table.chains),
            )
            if self._is_in(table)
            else table
            for table in stack.tables or ()
        )
        return snapshot.with_stack(msgspec.structs.replace(stack, tables=tables))


class _OneRule(_Standing, frozen=True, kw_only=True):
    """A rule of that chain, as ``iptables-save`` prints it without the chain."""

    rule: str

    def _position(self, chain: Chain | None) -> int | None:
        """The place of the first such rule, which is the one that iptables deletes."""
        text = f"-A {self.chain} {self.rule}"
        rules = () if chain is None else chain.rules
        return next((at for at, rule in enumerate(rules) if rule.text == text), None)

    @property
    def _deletion(self) -> tuple[str, ...]:
        return ("-D", self.chain, *arguments(self.rule))

    def _insertion(self, position: int) -> tuple[str, ...]:
        return ("-I", self.chain, str(position), *arguments(self.rule))

    def persist(self, snapshot: Snapshot) -> str:
        """By whoever reads the rules at boot."""
        return keep_rule(snapshot, snapshot.stack(self.stack), (*self._program, *self._deletion))


class DeleteRule(_OneRule, frozen=True, kw_only=True):
    """``iptables -D CHAIN RULE``; lets pass what the rule stopped, for everybody."""

    disruptive: bool = True

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """By its text, so that another rule is never meant."""
        del snapshot
        return (*self._program, *self._deletion)

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """The same rule where it stood."""
        position = self._position(self._found(snapshot))
        return (*self._program, *self._insertion(1 if position is None else position + 1))

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The chain without the first such rule."""
        chain = self._found(snapshot)
        position = self._position(chain)
        if chain is None or position is None:
            return snapshot
        rules = (*chain.rules[:position], *chain.rules[position + 1 :])
        return self._with(snapshot, msgspec.structs.replace(chain, rules=rules))


class MoveRule(_OneRule, frozen=True, kw_only=True):
    """A rule to the front of its chain, in one transaction, so that no packet comes between."""

    disruptive: bool = False

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``iptables-restore --noflush`` of a deletion and an insertion."""
        del snapshot
        return self._restore(1)

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """Back to where it stood."""
        position = self._position(self._found(snapshot))
        return self._restore(1 if position is None else position + 1)

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The chain with that rule in front."""
        chain = self._found(snapshot)
        position = self._position(chain)
        if chain is None or position is None:
            return snapshot
        moved: Rule = chain.rules[position]
        rules = (moved, *chain.rules[:position], *chain.rules[position + 1 :])
        return self._with(snapshot, msgspec.structs.replace(chain, rules=rules))

    def _restore(self, position: int) -> tuple[str, ...]:
        lines = (
            f"*{self.table}",
            f"-D {self.chain} {self.rule}",
            f"-I {self.chain} {position} {self.rule}",
            "COMMIT",
        )
        program = self._name.replace("tables", "tables-restore", 1).replace(
            "-restore-legacy", "-legacy-restore"
        )
        said = " ".join(shlex.quote(line) for line in lines)
        return ("sh", "-c", f"printf '%s\\n' {said} | {program} --noflush")


class SetPolicy(_Standing, frozen=True, kw_only=True):
    """``iptables -P CHAIN ACCEPT``: what no rule decides passes, whosever it is."""

    policy: Literal["accept", "drop"] = "accept"
    disruptive: bool = True

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``iptables -P CHAIN POLICY``."""
        del snapshot
        return (*self._program, "-P", self.chain, self.policy.upper())

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """The policy that it had."""
        chain = self._found(snapshot)
        before = self.policy if chain is None else chain.policy
        return (*self._program, "-P", self.chain, before.upper())

    def persist(self, snapshot: Snapshot) -> str:
        """By whoever sets it at boot."""
        return keep_rule(snapshot, snapshot.stack(self.stack), self.command(snapshot))

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The chain with that policy."""
        chain = self._found(snapshot)
        if chain is None:
            return snapshot
        return self._with(snapshot, msgspec.structs.replace(chain, policy=self.policy))
