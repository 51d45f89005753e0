"""Adding iptables rules."""

from __future__ import annotations

import msgspec

from kvmdiag.actions.chain import Place, with_rule
from kvmdiag.actions.iptables import InChain
from kvmdiag.actions.keep import keep, keep_rule
from kvmdiag.model.netfilter import Backend, Chain, HookName, Table
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack
from kvmdiag.parse.iptables import parse_rule
from kvmdiag.parse.words import arguments

# What iptables makes when a table is not there yet: chain, hook and priority
# (xtables-nft's builtin tables; include/uapi/linux/netfilter_ipv4.h).
_BUILTIN: dict[str, tuple[tuple[str, HookName, int], ...]] = {
    "filter": (("INPUT", "input", 0), ("FORWARD", "forward", 0), ("OUTPUT", "output", 0)),
    "nat": (
        ("PREROUTING", "prerouting", -100),
        ("INPUT", "input", 100),
        ("OUTPUT", "output", -100),
        ("POSTROUTING", "postrouting", 100),
    ),
    "mangle": (
        ("PREROUTING", "prerouting", -150),
        ("INPUT", "input", -150),
        ("FORWARD", "forward", -150),
        ("OUTPUT", "output", -150),
        ("POSTROUTING", "postrouting", -150),
    ),
    "raw": (("PREROUTING", "prerouting", -300), ("OUTPUT", "output", -300)),
    "security": (("INPUT", "input", 50), ("FORWARD", "forward", 50), ("OUTPUT", "output", 50)),
}


class _AddRule(InChain, frozen=True, kw_only=True):
    """What inserting and appending have in common.

    ``rule`` is written as ``iptables-save`` prints it, without the chain. ``kept_by`` says
    how the rule comes back after a reboot when that is not as for any other rule.
    """

    rule: str
    kept_by: str | None = None
    disruptive: bool = False

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """The same rule deleted by its text."""
        del snapshot  # deleting by text restores any state in which the rule was not there
        return (*self.program, "-D", self.chain, *arguments(self.rule))

    def persist(self, snapshot: Snapshot) -> str:
        """By whom the rule is put back."""
        stack = snapshot.stack(self.stack)
        if self.kept_by is not None:
            return keep(stack, self.kept_by)
        return keep_rule(snapshot, stack, self._line)

    @property
    def _line(self) -> tuple[str, ...]:
        """The command that makes the rule."""
        raise NotImplementedError

    def _applied(self, snapshot: Snapshot, position: int | None) -> Snapshot:
        """The chain with the rule before ``position`` (from 0), or at its end."""
        stack = snapshot.stack(self.stack)
        if stack.tables is None:
            return snapshot
        tables = _with_chain(stack.tables, self._fresh_table, self.place)
        snapshot = snapshot.with_stack(msgspec.structs.replace(stack, tables=tables))
        parsed = parse_rule(self.rule, family=self.family)
        rule = msgspec.structs.replace(
            parsed, text=f"-A {self.chain} {self.rule}", packets=0, bytes=0
        )
        return self.place.changed(snapshot, lambda chain: with_rule(chain, rule, position))

    @property
    def _fresh_table(self) -> Table:
        chains = tuple(
            Chain(
                name=name,
                hook=hook,
                type="nat" if self.table == "nat" else "filter",
                priority=priority,
                packets=0,
                bytes=0,
            )
            for name, hook, priority in _BUILTIN[self.table]
        )
        return Table(family=self.family, name=self.table, backend=self.backend, chains=chains)


class InsertRule(_AddRule, frozen=True, kw_only=True):
    """Insert an iptables rule before ``position``, counted from 1 as iptables does."""

    position: int = 1

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``iptables -I CHAIN POSITION RULE``."""
        del snapshot  # the command does not depend on what was there
        return self._line

    @property
    def _line(self) -> tuple[str, ...]:
        place = ("-I", self.chain, str(self.position))
        return (*self.program, *place, *arguments(self.rule))

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The chain with the rule in front; tables that were not read stay unread."""
        return self._applied(snapshot, self.position - 1)


class AppendRule(_AddRule, frozen=True, kw_only=True):
    """Append an iptables rule to a chain."""

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``iptables -A CHAIN RULE``."""
        del snapshot  # the command does not depend on what was there
        return self._line

    @property
    def _line(self) -> tuple[str, ...]:
        return (*self.program, "-A", self.chain, *arguments(self.rule))

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The chain with the rule at its end; tables that were not read stay unread."""
        return self._applied(snapshot, None)


def backend_in_use(stack: Stack) -> Backend:
    """The iptables that already has rules in this stack; the nft-backed one when none has.

    A rule put into a backend of its own would be seen by nobody who reads the other.
    """
    backends = [table.backend for table in stack.tables or ()]
    if "iptables-nft" not in backends and "iptables-legacy" in backends:
        return "iptables-legacy"
    return "iptables-nft"


def _with_chain(tables: tuple[Table, ...], fresh: Table, wanted: Place) -> tuple[Table, ...]:
    """The tables with the built-in chain in which the rule is to stand.

    The nft-backed iptables makes that chain alone and appends it to its table; a legacy table
    always has all of its chains.
    """
    alone = tuple(chain for chain in fresh.chains if chain.name == wanted.chain)
    for table in tables:
        if wanted.is_in(table):
            if table.chain(wanted.chain) is not None:
                return tables
            changed = msgspec.structs.replace(table, chains=(*table.chains, *alone))
            return tuple(changed if other is table else other for other in tables)
    if fresh.backend == "iptables-nft":
        fresh = msgspec.structs.replace(fresh, chains=alone)
    return (*tables, fresh)
