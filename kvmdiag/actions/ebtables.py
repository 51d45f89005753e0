"""Adding ebtables rules."""

from __future__ import annotations

import shlex
from typing import Literal

import msgspec

from kvmdiag.actions.chain import Place, with_rule
from kvmdiag.actions.keep import keep
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
        parsed = parse_rule(f"-A {self.chain} {self.rule}")
        rule = msgspec.structs.replace(parsed, packets=0, bytes=0)
        place = Place(self.stack, "bridge", self.table, "iptables-nft", self.chain)
        return place.changed(snapshot, lambda chain: with_rule(chain, rule))

    @property
    def _program(self) -> tuple[str, ...]:
        return ("ebtables",) if self.table == "filter" else ("ebtables", "-t", self.table)
