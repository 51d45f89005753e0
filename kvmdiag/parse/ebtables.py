"""Text of ``ebtables-nft-save`` to rules, for what nft cannot say of them.

::

    *nat
    :PREROUTING ACCEPT
    :I-vnet0-mac DROP
    -A PREROUTING -i vnet0 -j I-vnet0-mac
    -A I-vnet0-mac -s ! 52:54:00:aa:bb:cc -j DROP

A chain of the user's has a policy too; nf_tables holds it as a last rule, and so does the
table that is read here. Source: ebtables-nft(8), nft-bridge.c of iptables.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from kvmdiag.model.matches import Match, UnknownMatch
from kvmdiag.model.netfilter import Chain, Rule, Table
from kvmdiag.model.statements import (
    Accept,
    Drop,
    Jump,
    NoEffect,
    Return,
    SetMark,
    Statement,
    UnknownStatement,
)
from kvmdiag.parse import values
from kvmdiag.parse.ebtables_matches import matches_of
from kvmdiag.parse.errors import ParseError
from kvmdiag.parse.words import Option, options

_VERDICTS: Mapping[str, Statement] = {
    "ACCEPT": Accept(),
    "DROP": Drop(),
    "RETURN": Return(),
    "CONTINUE": NoEffect(text="-j CONTINUE"),
}
_BUILT_IN = frozenset({
    "PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING", "BROUTING",
})  # fmt: skip
_NEGATED = re.compile(r"(?<=\s)(-\S+) ! ")


def parse_save(text: str) -> tuple[Table, ...]:
    """Tables of family bridge in the order printed.

    Raises:
        ParseError: a line belongs to no table.
    """
    tables: dict[str, dict[str, list[Rule]]] = {}
    policies: dict[tuple[str, str], str] = {}
    name = ""
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("#"):
            continue
        words = line.split()
        if line.startswith("*"):
            name = line[1:]
            tables[name] = {}
        elif line.startswith(":") and len(words) == 2 and name:
            tables[name][words[0][1:]] = []
            policies[name, words[0][1:]] = words[1]
        elif words[0] == "-A" and len(words) > 1 and words[1] in tables.get(name, ()):
            tables[name][words[1]].append(parse_rule(line))
        elif line != "COMMIT":
            msg = f"ebtables-save printed a line of no table: {line[:80]!r}"
            raise ParseError(msg)
    return tuple(
        Table(
            family="bridge",
            name=table,
            backend="iptables-nft",
            chains=tuple(
                Chain(name=chain, rules=(*rules, *_policy_rule(chain, policies[table, chain])))
                for chain, rules in chains.items()
            ),
        )
        for table, chains in tables.items()
    )


def _policy_rule(chain: str, policy: str) -> tuple[Rule, ...]:
    if chain in _BUILT_IN or policy not in ("ACCEPT", "DROP"):
        return ()
    return (Rule(body=(_VERDICTS[policy],), text=f"-P {policy}"),)


def parse_rule(text: str) -> Rule:
    """One rule, as ebtables-nft-save prints it."""
    try:
        given = options(_NEGATED.sub(r"! \1 ", text))
    except ValueError as error:
        unread = f"{text[:200]} ({error})"
        return Rule(body=(UnknownMatch(text=unread), UnknownStatement(text=unread)), text=text)
    matches: list[Match] = []
    target: list[Option] = []
    for option in given:
        if option.name == "-j" or target:
            target.append(option)
        elif option.name != "-A":
            matches += matches_of(option)
    return Rule(body=(*matches, *_statements(target)), text=text)


def _statements(target: Sequence[Option]) -> tuple[Statement, ...]:
    if not target or len(target[0].values) != 1:
        return (NoEffect(text="no target"),)
    name, own = target[0].value, target[1:]
    text = " ".join(option.text for option in target)
    if not own:
        return (_VERDICTS.get(name) or _without_options(name, text),)
    if name == "mark" and len(own) == 2 and own[1].name == "--mark-target":
        try:
            value = values.number(own[0].value, values.ALL_BITS)
            mark = _MARKS[own[0].name](value)
            return mark, _VERDICTS[own[1].value]
        except (KeyError, ValueError):
            pass
    return (UnknownStatement(text=text),)


def _without_options(name: str, text: str) -> Statement:
    if name in ("snat", "dnat", "redirect", "mark", "arpreply"):
        return UnknownStatement(text=text)
    return Jump(chain=name)


_MARKS: Mapping[str, Callable[[int], SetMark]] = {
    "--mark-set": lambda value: SetMark(of="packet", value=value),
    "--mark-or": lambda value: SetMark(of="packet", value=value, mask=value),
    "--mark-and": lambda value: SetMark(of="packet", value=0, mask=value ^ values.ALL_BITS),
    "--mark-xor": lambda value: SetMark(of="packet", value=value, mask=0),
}
