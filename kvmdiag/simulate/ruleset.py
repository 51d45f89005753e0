"""Runs a packet through one base chain and the chains it leads to.

Where a match cannot be told both ways are followed to the end of the base chain; only if
they end differently is the verdict unknown, and then it names the match that decides.
Sources: nft_do_chain in net/netfilter/nf_tables_core.c, ipt_do_table in
net/ipv4/netfilter/ip_tables.c.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from kvmdiag.model.trace import RuleRef
from kvmdiag.simulate.chains import BaseChain
from kvmdiag.simulate.context import Seen
from kvmdiag.simulate.program import CompiledChain, CompiledRule
from kvmdiag.simulate.statements import End, NatStatement

# How many undecidable forks one base chain may have before its verdict is simply unknown; each
# takes three frames of Python's stack, of which there are a thousand.
_FORKS = 150

# No ruleset the kernel takes has chains nested deeper, or goes in circles.
_STEPS = 10_000


class Verdict(msgspec.Struct, frozen=True):
    """What a base chain says of a packet.

    ``rule`` decided it. What rules changed (marks, the zone, no tracking) is in the
    :class:`Seen` that was run through it; ``nat`` is the translation a nat chain asks for.
    ``why`` says, for unknown, what could not be evaluated.
    """

    kind: Literal["accept", "drop", "reject", "unknown"]
    rule: RuleRef
    nat: NatStatement | None = None
    reply: str | None = None
    why: str = ""

    def same_fate(self, other: Verdict) -> bool:
        """Whether the packet fares alike, whichever rule said so."""
        return (self.kind, self.nat, self.reply) == (other.kind, other.nat, other.reply)


class _Back(msgspec.Struct, frozen=True):
    """Where to go on at the end of a chain that was jumped to."""

    chain: CompiledChain
    position: int
    back: _Back | None


_Place = tuple[CompiledChain, int, _Back | None]


def run_base_chain(base: BaseChain, seen: Seen) -> Verdict:
    """The verdict of one base chain; ``seen`` is changed as its rules change the packet."""
    return _Run(base.compiled).follow((base.compiled, 0, None), seen)


class _Run:
    """One packet's way through the chains of one table, from a base chain."""

    def __init__(self, base: CompiledChain) -> None:
        self._base = base
        self._forks = 0
        self._steps = 0

    def follow(self, place: _Place, seen: Seen) -> Verdict:
        """Go on from a place until there is a verdict."""
        while True:
            chain, position, back = place
            for rule in chain.rules_for(seen, position):
                truth = rule.truth(seen)
                if truth is False:
                    continue
                if truth is None:
                    if rule.inert:
                        continue
                    return self._both_ways(rule, back, seen)
                end = rule.carry_out(seen)
                if end is None:
                    continue
                after = self._after(end, rule, back, seen)
                if isinstance(after, Verdict):
                    return after
                place = after
                break
            else:
                if back is None:
                    return self._policy(seen)
                place = (back.chain, back.position, back.back)

    def _after(
        self, end: End | None, rule: CompiledRule, back: _Back | None, seen: Seen
    ) -> Verdict | _Place:
        """Where to go on after what a rule said, or the verdict that it is."""
        while end is not None and end.choose is not None:
            end = end.choose(seen)
        following = rule.index + 1
        if end is None:
            return rule.chain, following, back
        kind = end.kind
        if kind == "accept" or kind == "drop" or kind == "reject":
            return Verdict(kind, self._ref(rule, seen), reply=end.reply)
        if kind == "nat":
            return Verdict("accept", self._ref(rule, seen), nat=end.nat)
        if kind == "return":
            return self._policy(seen) if back is None else (back.chain, back.position, back.back)
        if kind == "either":
            return self._any_of(end.either, rule, back, seen)
        if kind == "unknown":
            return Verdict("unknown", self._ref(rule, seen), why=end.why)
        target = rule.chain.program.chain(end.target)
        self._steps += 1
        if target is None or self._steps > _STEPS:
            why = f"chain {end.target} is not among those that were read"
            if target is not None:
                why = f"chain {end.target} leads in a circle"
            return Verdict("unknown", self._ref(rule, seen), why=why)
        return target, 0, _Back(rule.chain, following, back) if kind == "jump" else back

    def _both_ways(self, rule: CompiledRule, back: _Back | None, seen: Seen) -> Verdict:
        """The verdict when it cannot be told whether a rule's matches hold."""
        doubt = rule.doubt(seen)
        matched = seen.copy()
        end = rule.carry_out(matched)
        if end is None and matched.changes == seen.changes:
            return self.follow((rule.chain, rule.index + 1, back), seen)
        return self._alternatives([(end, matched), (None, seen.copy())], rule, back, seen, doubt)

    def _any_of(
        self, ends: tuple[End | None, ...], rule: CompiledRule, back: _Back | None, seen: Seen
    ) -> Verdict:
        """The verdict when a rule may say any of several things."""
        ways = [(end, seen.copy()) for end in ends]
        return self._alternatives(ways, rule, back, seen, rule.rule.text)

    def _alternatives(
        self,
        ways: list[tuple[End | None, Seen]],
        rule: CompiledRule,
        back: _Back | None,
        seen: Seen,
        doubt: str,
    ) -> Verdict:
        """Follow all ways; if they end alike that is the verdict, and ``seen`` as they leave it."""
        self._forks += len(ways) - 1
        if self._forks > _FORKS:
            return Verdict("unknown", self._ref(rule, seen), why=f"too many rules like: {doubt}")
        ends = []
        for end, variant in ways:
            after = self._after(end, rule, back, variant)
            verdict = after if isinstance(after, Verdict) else self.follow(after, variant)
            ends.append((verdict, variant))
        last, variant = ends[-1]
        for verdict, other in ends[:-1]:
            if not verdict.same_fate(last) or (
                last.kind == "accept" and other.changes != variant.changes
            ):
                unknown = next((v for v, _ in ends if v.kind == "unknown"), None)
                why = unknown.why if unknown is not None else doubt
                return Verdict("unknown", self._ref(rule, seen), why=why)
        seen.adopt(variant)
        return last

    def _policy(self, seen: Seen) -> Verdict:
        chain = self._base.chain
        ref = self._base.ref(seen.at.view.name, None, bridged=seen.at.bridged)
        return Verdict(chain.policy, ref)

    def _ref(self, rule: CompiledRule, seen: Seen) -> RuleRef:
        return rule.chain.ref(seen.at.view.name, rule.index, bridged=seen.at.bridged)
