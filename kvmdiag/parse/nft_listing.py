"""Text of ``nft list table``, taken apart into rules.

nft translates most of what iptables made in text, and in JSON nothing of it. The text can be
loaded elsewhere, where it is nft's own; this finds the rules that it leaves untranslated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from msgspec.structs import replace

from kvmdiag.model.matches import UnknownMatch
from kvmdiag.model.netfilter import Chain, Rule, Table
from kvmdiag.model.statements import UnknownStatement

_CHAIN = re.compile(r"\tchain (\S+) \{")
# What only iptables can say, and what names links that are not there elsewhere.
_LEFT_OUT = re.compile(r'\bxt (match|target|watcher)\b|\b(iif|oif) ["{!]')

Kept = Mapping[str, Sequence[int]]
"""Positions in its chain of each rule that was kept."""


def loadable(text: str) -> tuple[str, Kept]:
    """The listing without rules that cannot be loaded elsewhere, and which ones stayed."""
    lines: list[str] = []
    kept: dict[str, list[int]] = {}
    for chain, position, line in _parts(text):
        if position is None:
            lines.append(line)
        elif _LEFT_OUT.search(line) is None:
            lines.append(line)
            kept.setdefault(chain, []).append(position)
    return "\n".join((*lines, "")), kept


def _parts(text: str) -> Iterator[tuple[str, int | None, str]]:
    """Chain, position of the rule (``None``: not a rule) and its text; long rules are joined."""
    chain, position, whole = "", 0, ""
    for line in text.splitlines():
        if found := _CHAIN.fullmatch(line):
            chain, position = found[1], 0
            yield chain, None, line
            continue
        if not chain or line.strip() in ("", "}") or line.startswith("\t\ttype "):
            if line == "\t}":
                chain = ""
            yield chain, None, line
            continue
        whole = f"{whole} {line.strip()}" if whole else line
        if whole.count("{") == whole.count("}"):
            yield chain, position, whole
            position, whole = position + 1, ""


def needs_translation(table: Table) -> bool:
    """Whether nft's JSON left a rule of iptables without its meaning."""
    return table.family in ("ip", "ip6") and any(
        map(_is_unexplained, (rule for chain in table.chains for rule in chain.rules))
    )


def _is_unexplained(rule: Rule) -> bool:
    return any(
        isinstance(part, UnknownMatch | UnknownStatement) and part.text.startswith("xt ")
        for part in rule.body
    )


def translated(table: Table, elsewhere: Table, kept: Kept) -> Table:
    """The table, with the meaning its unexplained rules have elsewhere."""
    return replace(table, chains=tuple(_chain(chain, elsewhere, kept) for chain in table.chains))


def _chain(chain: Chain, elsewhere: Table, kept: Kept) -> Chain:
    other = elsewhere.chain(chain.name)
    positions = kept.get(chain.name, ())
    if other is None or len(other.rules) != len(positions):
        return chain
    meant = dict(zip(positions, other.rules, strict=True))
    rules = tuple(
        replace(rule, body=meant[n].body, text=meant[n].text)
        if n in meant and _is_unexplained(rule)
        else rule
        for n, rule in enumerate(chain.rules)
    )
    return replace(chain, rules=rules)
