"""From what the kernel calls a rule (a handle, a number) to the rule in the snapshot."""

from __future__ import annotations

from typing import cast

from kvmdiag.model.netfilter import Backend, Chain, Family, Rule
from kvmdiag.model.stack import Stack
from kvmdiag.model.statements import Accept, Drop, Goto, Jump, Reject, Return
from kvmdiag.model.trace import RuleRef

_WORDS: dict[type, str] = {Accept: "accept", Drop: "drop", Reject: "drop", Return: "return"}


class RuleBook:
    """The rules of one stack.

    A rule that came after the snapshot was taken is told too, by its handle alone.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack.name
        self._chains = {
            (table.backend == "iptables-legacy", table.family, table.name, chain.name): (
                table.backend,
                chain,
            )
            for table in stack.tables or ()
            for chain in table.chains
        }

    def by_handle(self, family: str, table: str, chain: str, handle: int | None) -> RuleRef:
        """A rule of nf_tables; the chain's policy without a handle."""
        backend, known = self._known(False, family, table, chain)
        rules = enumerate(known.rules if known is not None and handle is not None else ())
        index = next((index for index, rule in rules if rule.handle == handle), None)
        return RuleRef(
            stack=self._stack,
            family=cast("Family", family),
            backend=backend or "nft",
            table=table,
            chain=chain,
            index=index,
            text=_text(known, index, handle is None),
            handle=handle,
        )

    def by_number(self, family: Family, table: str, chain: str, index: int | None) -> RuleRef:
        """A rule of a legacy table, from 0; the chain's policy without a number."""
        _, known = self._known(True, family, table, chain)
        return RuleRef(
            stack=self._stack,
            family=family,
            backend="iptables-legacy",
            table=table,
            chain=chain,
            index=index,
            text=_text(known, index, index is None),
        )

    def verdict(self, legacy: RuleRef) -> str | None:
        """What a rule of a legacy table says when it matches, in nft's words."""
        _, known = self._known(True, legacy.family, legacy.table, legacy.chain)
        if known is None:
            return None
        if legacy.index is None:
            return known.policy
        return _said(known.rules[legacy.index]) if legacy.index < len(known.rules) else None

    def _known(
        self, legacy: bool, family: str, table: str, chain: str
    ) -> tuple[Backend | None, Chain | None]:
        key = (legacy, cast("Family", family), table, chain)
        return self._chains.get(key, (None, None))


def _text(chain: Chain | None, index: int | None, policy: bool) -> str:
    if policy:
        return "policy" if chain is None else f"policy {chain.policy.upper()}"
    if chain is None or index is None or index >= len(chain.rules):
        return "(its text is not in the snapshot)"
    return chain.rules[index].text


def _said(rule: Rule) -> str:
    last = rule.body[-1] if rule.body else None
    if isinstance(last, Jump):
        return f"jump {last.chain}"
    if isinstance(last, Goto):
        return f"goto {last.chain}"
    return _WORDS.get(type(last), "continue")
