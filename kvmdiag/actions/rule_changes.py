"""Changing iptables rules that are there: deleting one, moving one to the front, a policy."""

from __future__ import annotations

import shlex
from typing import Literal

from msgspec.structs import replace

from kvmdiag.actions.chain import with_rule
from kvmdiag.actions.iptables import InChain
from kvmdiag.actions.keep import keep_rule
from kvmdiag.model.netfilter import Chain
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.parse.words import arguments


class _OneRule(InChain, frozen=True, kw_only=True):
    """A rule of that chain, as ``iptables-save`` prints it without the chain."""

    rule: str

    def _position(self, chain: Chain) -> int | None:
        """The place of the first such rule, which is the one that iptables deletes."""
        text = f"-A {self.chain} {self.rule}"
        return next((at for at, rule in enumerate(chain.rules) if rule.text == text), None)

    def _number(self, snapshot: Snapshot) -> int:
        """The same as iptables counts, from 1; the first place where there is no such rule."""
        chain = self.place.found(snapshot)
        position = None if chain is None else self._position(chain)
        return 1 if position is None else position + 1

    @property
    def _deletion(self) -> tuple[str, ...]:
        return ("-D", self.chain, *arguments(self.rule))

    def _without(self, chain: Chain) -> Chain:
        at = self._position(chain)
        return (
            chain if at is None else replace(chain, rules=chain.rules[:at] + chain.rules[at + 1 :])
        )

    def _insertion(self, position: int) -> tuple[str, ...]:
        return ("-I", self.chain, str(position), *arguments(self.rule))

    def persist(self, snapshot: Snapshot) -> str:
        """By whoever reads the rules at boot."""
        return keep_rule(snapshot, snapshot.stack(self.stack), (*self.program, *self._deletion))


class DeleteRule(_OneRule, frozen=True, kw_only=True):
    """``iptables -D CHAIN RULE``; lets pass what the rule stopped, for everybody."""

    disruptive: bool = True

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """By its text, so that another rule is never meant."""
        del snapshot
        return (*self.program, *self._deletion)

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """The same rule where it stood."""
        return (*self.program, *self._insertion(self._number(snapshot)))

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The chain without the first such rule."""
        return self.place.changed(snapshot, self._without)


class MoveRule(_OneRule, frozen=True, kw_only=True):
    """A rule to the front of its chain, in one transaction, so that no packet comes between."""

    disruptive: bool = False

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``iptables-restore --noflush`` of a deletion and an insertion."""
        del snapshot
        return self._restore(1)

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """Back to where it stood."""
        return self._restore(self._number(snapshot))

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The chain with that rule in front."""
        return self.place.changed(snapshot, self._with_it_in_front)

    def _with_it_in_front(self, chain: Chain) -> Chain:
        position = self._position(chain)
        return chain if position is None else with_rule(self._without(chain), chain.rules[position])

    def _restore(self, position: int) -> tuple[str, ...]:
        lines = (
            f"*{self.table}",
            f"-D {self.chain} {self.rule}",
            f"-I {self.chain} {position} {self.rule}",
            "COMMIT",
        )
        program = self.name.replace("tables", "tables-restore", 1).replace(
            "-restore-legacy", "-legacy-restore"
        )
        said = " ".join(shlex.quote(line) for line in lines)
        return ("sh", "-c", f"printf '%s\\n' {said} | {program} --noflush")


class SetPolicy(InChain, frozen=True, kw_only=True):
    """``iptables -P CHAIN ACCEPT``: what no rule decides passes, whosever it is."""

    policy: Literal["accept", "drop"] = "accept"
    disruptive: bool = True

    def command(self, snapshot: Snapshot) -> tuple[str, ...]:
        """``iptables -P CHAIN POLICY``."""
        del snapshot
        return (*self.program, "-P", self.chain, self.policy.upper())

    def undo(self, snapshot: Snapshot) -> tuple[str, ...]:
        """The policy that it had."""
        chain = self.place.found(snapshot)
        before = self.policy if chain is None else chain.policy
        return (*self.program, "-P", self.chain, before.upper())

    def persist(self, snapshot: Snapshot) -> str:
        """By whoever sets it at boot."""
        return keep_rule(snapshot, snapshot.stack(self.stack), self.command(snapshot))

    def apply(self, snapshot: Snapshot) -> Snapshot:
        """The chain with that policy."""
        return self.place.changed(snapshot, lambda chain: replace(chain, policy=self.policy))
