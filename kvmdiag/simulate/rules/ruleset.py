"""Runs a packet through one base chain and the chains it leads to.

Where a match cannot be told both ways are followed to the end of the base chain. If they end
alike that is the verdict; else it is unknown, and the verdict has the ways with what must be
known to choose among them.
Sources: nft_do_chain in net/netfilter/nf_tables_core.c, ipt_do_table in
net/ipv4/netfilter/ip_tables.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import msgspec

from kvmdiag.model.statements import Translation
from kvmdiag.model.trace import RuleRef
from kvmdiag.simulate.facts.chains import BaseChain
from kvmdiag.simulate.forks import Doubt, parting
from kvmdiag.simulate.rules.context import Seen
from kvmdiag.simulate.rules.endings import End, described
from kvmdiag.simulate.rules.program import CompiledChain, CompiledRule, program_of

# How many undecidable forks one base chain may have before its verdict is simply unknown.
_FORKS = 150

# No ruleset the kernel takes has chains nested deeper, or goes in circles.
_STEPS = 10_000


class Verdict(msgspec.Struct, frozen=True):
    """What a base chain says of a packet.

    ``rule`` decided it. What rules changed (marks, the zone, no tracking) is in the
    :class:`Seen` that was run through it; ``nat`` is the translation a nat chain asks for.
    ``why`` says, for unknown, what could not be evaluated; ``ways`` are then the different
    ways to end, empty when what happens is not understood at all.
    """

    kind: Literal["accept", "drop", "reject", "unknown"]
    rule: RuleRef
    nat: Translation | None = None
    reply: str | None = None
    why: str = ""
    ways: tuple[Way, ...] = ()

    def same_fate(self, other: Verdict) -> bool:
        """Whether the packet fares alike, whichever rule said so."""
        return (self.kind, self.nat, self.reply) == (other.kind, other.nat, other.reply)


class Way(NamedTuple):
    """One way through a base chain, the packet as it leaves it, and what was supposed."""

    verdict: Verdict
    seen: Seen
    supposed: tuple[Doubt, ...]

    def ends_like(self, other: Way) -> bool:
        """Whether what comes after cannot tell the two apart."""
        return self.verdict.same_fate(other.verdict) and (
            self.verdict.kind != "accept" or self.seen.changes == other.seen.changes
        )


class _Back(msgspec.Struct, frozen=True):
    """Where to go on at the end of a chain that was jumped to."""

    chain: CompiledChain
    position: int
    back: _Back | None


_Place = tuple[CompiledChain, int, _Back | None]


class _Fork(NamedTuple):
    """A rule of which it cannot be told what it does; each way with the answer it supposes."""

    rule: CompiledRule
    back: _Back | None
    doubt: str
    ways: tuple[tuple[str, End | None, Seen], ...]


def run_base_chain(base: BaseChain, seen: Seen) -> Verdict:
    """The verdict of one base chain; ``seen`` is changed as its rules change the packet."""
    chain = program_of(base.table).chains[base.chain.name]
    run = _Run(chain)
    found = run.follow((chain, 0, None), seen)
    return found if isinstance(found, Verdict) else _joined(run, found, seen)


def _joined(run: _Run, fork: _Fork, seen: Seen) -> Verdict:
    """The verdict that all ways from a fork agree on, or unknown with what decides."""
    found: list[Way] = []
    for way in run.ways(fork):
        if not any(way.ends_like(other) for other in found):
            found.append(way)
    first = found[0]
    if len(found) == 1:
        seen.adopt(first.seen)
        return first.verdict
    doubt, _ = parting(first.supposed, found[1].supposed)
    assert isinstance(doubt.rule, RuleRef)  # noqa: S101  what rules leave open
    return Verdict("unknown", doubt.rule, why=doubt.expression, ways=tuple(found))


class _Run:
    """One packet's way through the chains of one table, from a base chain."""

    def __init__(self, base: CompiledChain) -> None:
        self._base = base
        self._steps = 0

    def follow(self, place: _Place, seen: Seen) -> Verdict | _Fork:
        """Go on from a place until there is a verdict, or what comes next cannot be told."""
        while True:
            chain, position, back = place
            for rule in chain.rules_for(seen, position):
                truth = rule.truth(seen)
                if truth is False:
                    continue
                if truth is None:
                    fork = None if rule.inert else _both_ways(rule, back, seen)
                    if fork is None:
                        continue
                    return fork
                end = rule.carry_out(seen)
                if end is None:
                    continue
                after = self._after(end, rule, back, seen)
                if not isinstance(after, tuple) or isinstance(after, _Fork):
                    return after
                place = after
                break
            else:
                if back is None:
                    return self._policy(seen)
                place = (back.chain, back.position, back.back)

    def ways(self, fork: _Fork) -> Iterator[Way]:
        """Every way from a fork to a verdict; where two meet again only one is followed on."""
        been: set[object] = set()
        pending: list[tuple[_Fork, int, tuple[Doubt, ...]]] = []
        found: Verdict | _Fork = fork
        seen = fork.ways[0][2]
        supposed: tuple[Doubt, ...] = ()
        while True:
            if isinstance(found, Verdict):
                yield Way(found, seen, supposed)
            else:
                place = (id(found.rule), found.back, seen.changes)
                if place not in been:
                    been.add(place)
                    pending += ((found, n, supposed) for n in reversed(range(len(found.ways))))
            if not pending:
                return
            parted, number, before = pending.pop()
            answer, end, seen = parted.ways[number]
            ref = parted.rule.ref(seen)
            supposed = (*before, Doubt(ref, parted.doubt, answer))
            if len(been) > _FORKS:
                why = f"too many rules like: {parted.doubt}"
                yield Way(Verdict("unknown", ref, why=why), seen, supposed)
                return
            after = self._after(end, parted.rule, parted.back, seen)
            found = after if isinstance(after, Verdict | _Fork) else self.follow(after, seen)

    def _after(
        self, end: End | None, rule: CompiledRule, back: _Back | None, seen: Seen
    ) -> Verdict | _Fork | _Place:
        """Where to go on after what a rule said, or the verdict that it is."""
        end = _looked_up(end, seen)
        following = rule.index + 1
        if end is None:
            return rule.chain, following, back
        kind = end.kind
        if kind == "accept" or kind == "drop" or kind == "reject":
            return Verdict(kind, rule.ref(seen), reply=end.reply)
        if kind == "nat":
            return Verdict("accept", rule.ref(seen), nat=end.nat)
        if kind == "return":
            return self._policy(seen) if back is None else (back.chain, back.position, back.back)
        if kind == "either":
            return _any_of(end.either, rule, back, seen)
        if kind == "unknown":
            return Verdict("unknown", rule.ref(seen), why=end.why)
        target = rule.chain.program.chains.get(end.target)
        self._steps += 1
        if target is None or self._steps > _STEPS:
            why = f"chain {end.target} is not among those that were read"
            if target is not None:
                why = f"chain {end.target} leads in a circle"
            return Verdict("unknown", rule.ref(seen), why=why)
        return target, 0, _Back(rule.chain, following, back) if kind == "jump" else back

    def _policy(self, seen: Seen) -> Verdict:
        chain = self._base.chain
        ref = self._base.ref(seen.at.view.name, None, bridged=seen.at.bridged)
        return Verdict(chain.policy, ref)


def _both_ways(rule: CompiledRule, back: _Back | None, seen: Seen) -> _Fork | None:
    """It cannot be told whether a rule's matches hold; ``None`` if that makes no difference."""
    doubt = rule.doubt(seen)
    matched = seen.copy()
    end = rule.carry_out(matched)
    if end is None and matched.changes == seen.changes:
        return None
    ways = (("does not match", None, seen.copy()), ("matches", end, matched))
    return _Fork(rule, back, doubt, ways)


def _looked_up(end: End | None, seen: Seen) -> End | None:
    """What a map says. Without an element it breaks the rule off, which has not matched then."""
    while end is not None and end.choose is not None:
        end = end.choose(seen)
        if end is None:
            seen.matched.pop()
    return end


def _any_of(
    ends: tuple[End | None, ...], rule: CompiledRule, back: _Back | None, seen: Seen
) -> _Fork:
    """A rule may say any of several things."""
    ways = tuple((f"says {_said(end)}", end, seen.copy()) for end in ends)
    return _Fork(rule, back, rule.rule.text, ways)


def _said(end: End | None) -> str:
    if end is None:
        return "nothing"
    return described(end.nat) if end.nat is not None else f"{end.kind} {end.target}".strip()
