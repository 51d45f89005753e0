"""Runs a packet through the chains of a hook.

Every base chain of every table is run in the order of priority, whatever tool made it.
A drop is final, an accept holds for its own base chain only (nf_hook_slow). Where a match
cannot be evaluated both ways are followed; only if they end differently is the verdict
unknown, and then it names the match that decides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

from msgspec.structs import replace as with_fields

from kvmdiag.model.netfilter import (
    Accept,
    Chain,
    DestinationNat,
    Drop,
    Goto,
    Jump,
    Masquerade,
    Match,
    NoEffect,
    NoTrack,
    Redirect,
    Reject,
    Return,
    Rule,
    SetMark,
    SourceNat,
    Statement,
    Table,
    UnknownMatch,
    UnknownStatement,
)
from kvmdiag.model.packet import Packet
from kvmdiag.model.trace import RuleRef
from kvmdiag.simulate.chains import BaseChain
from kvmdiag.simulate.context import Context
from kvmdiag.simulate.match import holds

NatStatement = SourceNat | DestinationNat | Masquerade | Redirect

STATEMENTS = get_args(Statement)

# How many undecidable forks one hook may have before the verdict is simply unknown.
_FORKS = 64


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule or chain says of a packet.

    ``continue`` goes on with the next rule, ``return`` leaves the chain without a verdict;
    the others are final for their base chain. ``rule`` decided it; ``packet`` is the packet
    as it is left (marks), ``nat`` the translation a nat chain asks for, ``tracked`` is false
    after a notrack statement. ``why`` says, for unknown, what could not be evaluated.
    """

    kind: Literal["continue", "return", "accept", "drop", "reject", "unknown"]
    packet: Packet
    rule: RuleRef | None = None
    nat: NatStatement | None = None
    reply: str | None = None
    tracked: bool = True
    connection_mark: int = 0
    why: str = ""

    def same_fate(self, other: Verdict) -> bool:
        """Whether the packet fares alike, whichever rule said so."""
        return replace(self, rule=None) == replace(other, rule=None)


def run_base_chain(base: BaseChain, at: Context) -> Verdict:
    """The verdict of one base chain: accept, drop, reject or unknown."""
    verdict = _Run(base.table, at).chain(base.chain)
    if verdict.kind != "return":
        return verdict
    policy = RuleRef(
        stack=at.view.name,
        family=base.table.family,
        backend=base.table.backend,
        table=base.table.name,
        chain=base.chain.name,
        index=None,
        text=f"policy {base.chain.policy.upper()}",
        bridged=at.bridged,
    )
    return replace(verdict, kind=base.chain.policy, rule=policy)


class _Run:
    """One packet's way through the chains of one table."""

    def __init__(self, table: Table, at: Context) -> None:
        self._table = table
        self._at = at
        self._chains = {chain.name: chain for chain in table.chains}
        self._forks = 0
        self._depth = 0

    def chain(self, chain: Chain) -> Verdict:
        """Go through a chain from its first rule; the verdict is never ``continue``."""
        start = Verdict("continue", self._at.packet, connection_mark=self._at.connection_mark)
        return self._from(chain, 0, start)

    def _from(self, chain: Chain, first: int, so_far: Verdict) -> Verdict:
        for index in range(first, len(chain.rules)):
            rule = chain.rules[index]
            truth, doubt = self._matches(rule, so_far.packet)
            if truth is False:
                continue
            verdict = self._carry_out(chain, index, so_far)
            if truth is None:
                return self._both_ways(chain, index, doubt, so_far, verdict)
            if verdict.kind != "continue":
                return verdict
            so_far = verdict
        return replace(so_far, kind="return")

    def _both_ways(
        self, chain: Chain, index: int, doubt: str, so_far: Verdict, matched: Verdict
    ) -> Verdict:
        """The verdict when the match at ``index`` may be true or false."""
        self._forks += 1
        if self._forks > _FORKS:
            return replace(so_far, kind="unknown", why=f"too many rules like: {doubt}")
        otherwise = self._from(chain, index + 1, so_far)
        if matched.kind == "continue":
            matched = (
                otherwise if matched.same_fate(so_far) else self._from(chain, index + 1, matched)
            )
        if matched.same_fate(otherwise):
            return otherwise
        unknown = next((v for v in (matched, otherwise) if v.kind == "unknown"), None)
        why = unknown.why if unknown is not None else doubt
        return replace(so_far, kind="unknown", rule=self._ref(chain, index), why=why)

    def _matches(self, rule: Rule, packet: Packet) -> tuple[bool | None, str]:
        """Whether all matches hold, and the text of the first that cannot be told."""
        truth: bool | None = True
        doubt = ""
        at = self._at if packet is self._at.packet else replace(self._at, packet=packet)
        for part in rule.body:
            if isinstance(part, STATEMENTS):
                continue
            answer = holds(cast("Match", part), at)
            if answer is False:
                return False, ""
            if answer is None and truth is True:
                truth = None
                doubt = part.text if isinstance(part, UnknownMatch) else rule.text
        return truth, doubt

    def _carry_out(self, chain: Chain, index: int, so_far: Verdict) -> Verdict:
        """The statements of a rule that matches, from left to right."""
        for part in chain.rules[index].body:
            if isinstance(part, STATEMENTS):
                so_far = self._statement(chain, index, part, so_far)
                if so_far.kind != "continue":
                    break
        return so_far

    def _statement(
        self, chain: Chain, index: int, statement: Statement, so_far: Verdict
    ) -> Verdict:
        match statement:
            case NoEffect():
                return so_far
            case Return():
                return replace(so_far, kind="return")
            case Jump() | Goto():
                return self._call(chain, index, statement, so_far)
            case SetMark(of="packet"):
                mark = _mark(statement, so_far.packet.mark)
                return replace(so_far, packet=with_fields(so_far.packet, mark=mark))
            case SetMark():
                mark = _mark(statement, so_far.connection_mark)
                return replace(so_far, connection_mark=mark)
            case NoTrack():
                return replace(so_far, tracked=False)
        return self._final(statement, replace(so_far, rule=self._ref(chain, index)))

    def _final(self, statement: Statement, so_far: Verdict) -> Verdict:
        """A statement that ends the base chain; ``so_far`` already names the rule."""
        match statement:
            case Accept():
                return replace(so_far, kind="accept")
            case Drop():
                return replace(so_far, kind="drop")
            case Reject():
                return replace(so_far, kind="reject", reply=statement.reply)
            case SourceNat() | DestinationNat() | Masquerade() | Redirect():
                return replace(so_far, kind="accept", nat=statement)
        text = statement.text if isinstance(statement, UnknownStatement) else repr(statement)
        return replace(so_far, kind="unknown", why=text)

    def _call(self, chain: Chain, index: int, statement: Jump | Goto, so_far: Verdict) -> Verdict:
        """Go through another chain; after a jump, not after a goto, come back here."""
        target = self._chains.get(statement.chain)
        if target is None or self._depth >= len(self._chains):
            why = f"chain {statement.chain} is not among those that were read"
            return replace(so_far, kind="unknown", rule=self._ref(chain, index), why=why)
        self._depth += 1
        verdict = self._from(target, 0, so_far)
        self._depth -= 1
        if verdict.kind == "return" and isinstance(statement, Jump):
            return replace(verdict, kind="continue")
        return verdict

    def _ref(self, chain: Chain, index: int) -> RuleRef:
        rule = chain.rules[index]
        return RuleRef(
            stack=self._at.view.name,
            family=self._table.family,
            backend=self._table.backend,
            table=self._table.name,
            chain=chain.name,
            index=index,
            text=rule.text,
            handle=rule.handle,
            bridged=self._at.bridged,
        )


def _mark(statement: SetMark, mark: int) -> int:
    """``(mark & ~mask) ^ value`` (mark_tg in net/netfilter/xt_mark.c)."""
    return (mark & ~statement.mask & 0xFFFFFFFF) ^ statement.value
