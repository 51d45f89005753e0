"""Tables compiled: each rule a few functions, each long chain indexed.

Compiling depends on nothing but the table, so its result is kept as long as tables of that
very object are walked.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import cast, get_args

from kvmdiag.model.matches import Match, OwnerIs, UnknownMatch
from kvmdiag.model.netfilter import Chain, Rule, Table
from kvmdiag.model.statements import NoEffect, Statement
from kvmdiag.model.trace import RuleRef
from kvmdiag.simulate.rules.context import Matcher, Seen
from kvmdiag.simulate.rules.effects import Effect, UndecidedError, effects_of
from kvmdiag.simulate.rules.endings import End, ending
from kvmdiag.simulate.rules.index import Index
from kvmdiag.simulate.rules.match import compiled
from kvmdiag.simulate.rules.sets import Sets

_STATEMENTS = get_args(Statement)
_INDEXED_FROM = 12
"""Rules; to look at fewer one after the other is quicker."""

_KEPT = 256
_programs: OrderedDict[int, Program] = OrderedDict()


def program_of(table: Table) -> Program:
    """The compiled table."""
    found = _programs.get(id(table))
    if found is None or found.table is not table:
        found = _programs[id(table)] = Program(table)
        if len(_programs) > _KEPT:
            _programs.popitem(last=False)
    return found


class Program:
    """A table with its chains, compiled when a packet first comes to them."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.sets = Sets(table.sets)
        self.chains = {chain.name: CompiledChain(chain, self) for chain in table.chains}


class CompiledChain:
    """A chain's rules, and which of them a packet may match."""

    def __init__(self, chain: Chain, program: Program) -> None:
        self.chain = chain
        self.program = program
        self._refs: dict[tuple[str, int | None, bool], RuleRef] = {}

    @cached_property
    def rules(self) -> tuple[CompiledRule, ...]:
        """The rules, compiled."""
        return tuple(CompiledRule(self, index) for index in range(len(self.chain.rules)))

    @cached_property
    def _index(self) -> Index | None:
        if len(self.chain.rules) < _INDEXED_FROM:
            return None
        return Index([_required(rule) for rule in self.chain.rules])

    def rules_for(self, seen: Seen, first: int) -> Iterator[CompiledRule] | Sequence[CompiledRule]:
        """Rules from the one at ``first`` on, without those that cannot match."""
        index = self._index
        if index is None:
            return self.rules[first:] if first else self.rules
        rules = self.rules
        return (rules[n] for n in index.candidates(seen) if n >= first)

    def ref(self, stack: str, index: int | None, *, bridged: bool) -> RuleRef:
        """Names a rule of this chain, or its policy."""
        key = (stack, index, bridged)
        found = self._refs.get(key)
        if found is None:
            found = self._refs[key] = self._new_ref(stack, index, bridged=bridged)
        return found

    def _new_ref(self, stack: str, index: int | None, *, bridged: bool) -> RuleRef:
        table = self.program.table
        rule = self.chain.rules[index] if index is not None else None
        return RuleRef(
            stack=stack,
            family=table.family,
            backend=table.backend,
            table=table.name,
            chain=self.chain.name,
            index=index,
            text=rule.text if rule is not None else f"policy {self.chain.policy.upper()}",
            handle=rule.handle if rule is not None else None,
            bridged=bridged,
        )


class CompiledRule:
    """Matches, then effects, then at most one statement that ends or leaves the chain.

    Statements of nft act from left to right: what stands behind an effect and a further match
    is a rule of its own, ``then``.
    """

    __slots__ = ("_matches", "chain", "effects", "end", "index", "matchers", "then")

    def __init__(self, chain: CompiledChain, index: int, first: int = 0) -> None:
        self.chain = chain
        self.index = index
        self.then: CompiledRule | None = None
        self.end: End | None = None
        matches: list[Match] = []
        effects: list[Effect] = []
        body = chain.chain.rules[index].body
        sets = chain.program.sets
        for position in range(first, len(body)):
            part = body[position]
            if not isinstance(part, _STATEMENTS):
                if effects:
                    self.then = CompiledRule(chain, index, position)
                    break
                matches.append(cast("Match", part))
                continue
            acts = effects_of(part, sets, of_nft=chain.program.table.backend == "nft")
            if acts is None:
                self.end = ending(part, sets)
                break
            effects += acts
        self.matchers: tuple[Matcher, ...] = tuple(compiled(match, sets) for match in matches)
        self.effects = tuple(effects)
        self._matches = tuple(matches)

    @property
    def inert(self) -> bool:
        """Whether it makes no difference that a packet matches."""
        return not self.effects and self.end is None

    def truth(self, seen: Seen) -> bool | None:
        """Whether all matches hold."""
        truth: bool | None = True
        for matcher in self.matchers:
            answer = matcher(seen)
            if answer is False:
                return False
            if answer is None:
                truth = None
        return truth

    def doubt(self, seen: Seen) -> str:
        """The first match that cannot be told."""
        for match, matcher in zip(self._matches, self.matchers, strict=True):
            if matcher(seen) is None:
                return match.text if isinstance(match, OwnerIs | UnknownMatch) else self.rule.text
        return self.rule.text

    def ref(self, seen: Seen) -> RuleRef:
        """Names the rule, in the stack in which the packet comes by it."""
        at = seen.at
        return self.chain.ref(at.view.name, self.index, bridged=at.bridged)

    @property
    def rule(self) -> Rule:
        """What was compiled."""
        return self.chain.chain.rules[self.index]

    def carry_out(self, seen: Seen) -> End | None:
        """The effects upon a packet that matches, and what is to be done with it then."""
        seen.matched.append(self.ref(seen))
        try:
            for act in self.effects:
                if act(seen) is False:
                    seen.matched.pop()
                    return None
        except UndecidedError as undecided:
            return End("unknown", why=str(undecided))
        if self.then is None:
            return self.end
        truth = self.then.truth(seen)
        if truth is None:
            return End("unknown", why=self.then.doubt(seen))
        seen.matched.pop()  # the whole rule matches only if its last part does
        return self.then.carry_out(seen) if truth else None


def _required(rule: Rule) -> Iterator[Match]:
    """Matches that must hold before the rule does anything."""
    for part in rule.body:
        if not isinstance(part, _STATEMENTS):
            yield cast("Match", part)
        elif not isinstance(part, NoEffect):
            break
