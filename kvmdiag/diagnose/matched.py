"""Rules that a packet met on its way and that did something to it, though they did not stop it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kvmdiag.actions.rule_changes import DeleteRule
from kvmdiag.diagnose.accepting import Accepting, accept_in_front
from kvmdiag.diagnose.case import Case
from kvmdiag.diagnose.check import Remedy
from kvmdiag.diagnose.rules import HOOKS, backend_of, family_of, has, rule_of
from kvmdiag.model.netfilter import Rule
from kvmdiag.model.stack import Stack
from kvmdiag.model.trace import Hop, RuleRef


class Matched(NamedTuple):
    """``rule`` of ``stack`` matched the packet at ``hop``."""

    stack: Stack
    hop: Hop
    ref: RuleRef
    rule: Rule

    def remedies(self) -> Iterator[Remedy]:
        """To delete it, and to accept in front of it what comes and goes by these links.

        It accepts and drops nothing, so nobody's packets are stopped for want of it.
        """
        if self.ref.backend != "nft" and self.ref.family in ("ip", "ip6"):
            yield (
                DeleteRule(
                    stack=self.stack.name,
                    table=self.ref.table,
                    chain=self.ref.chain,
                    rule=self.rule.text.removeprefix(f"-A {self.ref.chain} "),
                    family=family_of(self.ref),
                    backend=backend_of(self.ref),
                    disruptive=False,
                ),
            )
        whole_link = Accepting(in_link=self.hop.in_link, out_link=self.hop.out_link)
        accept = accept_in_front(self.stack, self.ref, HOOKS[self.hop.stage], whole_link)
        if accept is not None:
            yield (accept,)


def matched(case: Case, hops: Iterable[Hop], *kinds: type) -> Iterator[Matched]:
    """The rules with a part of one of these kinds that matched on these hops."""
    for hop in hops:
        for ref in hop.matched if hop.stage in HOOKS else ():
            stack = case.stack(ref.stack)
            rule = None if stack is None else rule_of(stack, ref)
            if stack is not None and rule is not None and has(rule, *kinds):
                yield Matched(stack, hop, ref, rule)
