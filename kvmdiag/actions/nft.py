"""Adding rules to nft's own tables."""

from __future__ import annotations

import shlex

import msgspec

from kvmdiag.actions.chain import Place, with_rule
from kvmdiag.actions.keep import keep_rule
from kvmdiag.model.matches import Match
from kvmdiag.model.netfilter import Family, Rule
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.statements import Statement

_MARK = "by kvmdiag"


class InsertNftRule(msgspec.Struct, frozen=True, kw_only=True):
    """``nft insert rule FAMILY TABLE CHAIN TEXT``: in front of all others.

    ``body`` is what ``text`` means. nft deletes by handle only, and a rule has none before it
    is there; its comment is what undo finds it by.
    """

    stack: str
    family: Family
    table: str
    chain: str
    text: str
    body: tuple[Match | Statement, ...]
    disruptive: bool = False

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``nft insert rule ...``, one argument, as nft reads it."""
        del snapshot  # the command does not depend on what was there
        return ("nft", f'insert rule {self._place} {self.text} comment "{_MARK}"')

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """A shell line that looks up the handle, which ends the rule's line, and deletes by it."""
        del snapshot
        place = shlex.join((self.family, self.table, self.chain))
        handle = f'nft -a list chain {place} | awk "/{_MARK}/ {{ print \\$NF; exit }}"'
        return ("sh", "-c", f"nft delete rule {place} handle $({handle})")

    def persist(self, snapshot: Snapshot) -> str:
        """By whom the rule is put back."""
        return keep_rule(snapshot, snapshot.stack(self.stack), self.command(snapshot))

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The chain with the rule in front; tables that were not read stay unread."""
        rule = Rule(body=self.body, text=self.text, packets=0, bytes=0, comment=_MARK)
        place = Place(self.stack, self.family, self.table, "nft", self.chain)
        return place.changed(snapshot, lambda chain: with_rule(chain, rule))

    @property
    def _place(self) -> str:
        return f"{self.family} {self.table} {self.chain}"
