"""One ruleset of what iptables-nft-save and nft print about the same tables.

iptables-nft-save has the full meaning of the rules it made, nft has their handles and
everything else. Both list the rules of a chain in the kernel's order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from kvmdiag.model.matches import UnknownMatch
from kvmdiag.model.netfilter import Chain, Family, Rule, Table
from kvmdiag.model.statements import UnknownStatement
from kvmdiag.parse.errors import ParseError

Key = tuple[Family, str]


class MismatchError(ParseError):
    """The two listings are not of the same ruleset: it changed in between; read again."""


def join(
    listed: Iterable[Table], saved: Iterable[Table], incompatible: frozenset[Key] = frozenset()
) -> tuple[Table, ...]:
    """Every table once, in the order nft lists them.

    Args:
        listed: what :func:`kvmdiag.parse.nft.parse_ruleset` read.
        saved: what iptables-nft-save and ip6tables-nft-save print, with rules in full.
        incompatible: tables they declared incompatible; nft's reading of them is used.

    Raises:
        MismatchError: a chain has another number of rules in the one than in the other.

    """
    meanings: Mapping[Key, Table] = {
        (table.family, table.name): table
        for table in saved
        if (table.family, table.name) not in incompatible
    }
    found = tuple(listed)
    missing = meanings.keys() - {(table.family, table.name) for table in found}
    for key in missing:
        # iptables-nft-save prints the chains a table would have; only rules show it exists.
        if any(chain.rules for chain in meanings[key].chains):
            msg = f"nft does not list table {' '.join(key)}, iptables-nft-save does"
            raise MismatchError(msg)
    return tuple(
        _joined(table, meanings[table.family, table.name])
        if (table.family, table.name) in meanings
        else table
        for table in found
    )


def _joined(listed: Table, saved: Table) -> Table:
    """The saved table, with only the chains that are there, and with handles."""
    if listed.family == "bridge":
        return _explained(listed, saved)
    extra = {chain.name for chain in saved.chains if chain.rules} - {c.name for c in listed.chains}
    if extra:
        msg = f"nft does not list chain {min(extra)} of {listed.family} {listed.name}"
        raise MismatchError(msg)
    meanings = {chain.name: chain for chain in saved.chains}
    chains = tuple(
        _joined_chain(listed, chain, meanings.get(chain.name)) for chain in listed.chains
    )
    return msgspec.structs.replace(
        saved,
        chains=chains,
        sets=listed.sets,
        flowtables=listed.flowtables,
        backend="iptables-nft",
    )


def _explained(listed: Table, saved: Table) -> Table:
    """The listed table of family bridge, with what only ebtables can say of its rules.

    ebtables also prints tables that it did not make; those need no explanation.
    """
    chains = []
    for chain in listed.chains:
        other = saved.chain(chain.name)
        if other is not None and len(other.rules) == len(chain.rules):
            rules = tuple(map(_explained_rule, chain.rules, other.rules))
            chain = msgspec.structs.replace(chain, rules=rules)  # noqa: PLW2901
        chains.append(chain)
    return msgspec.structs.replace(listed, chains=tuple(chains))


def _explained_rule(listed: Rule, saved: Rule) -> Rule:
    unknown = any(isinstance(part, UnknownMatch | UnknownStatement) for part in listed.body)
    if not unknown:
        return listed
    return msgspec.structs.replace(listed, body=saved.body, text=saved.text)


def _joined_chain(table: Table, listed: Chain, saved: Chain | None) -> Chain:
    if saved is None or len(saved.rules) != len(listed.rules):
        msg = f"chain {listed.name} of {table.family} {table.name} changed while it was read"
        raise MismatchError(msg)
    rules = tuple(
        # There may be very many, and msgspec.structs.replace() takes ten times as long.
        Rule(
            body=rule.body,
            text=rule.text,
            handle=other.handle,
            packets=rule.packets,
            bytes=rule.bytes,
            comment=rule.comment,
        )
        for rule, other in zip(saved.rules, listed.rules, strict=True)
    )
    # Hook and priority as the kernel has them, which nft prints and iptables only implies.
    return msgspec.structs.replace(listed, rules=rules, packets=saved.packets, bytes=saved.bytes)
