"""Text of ``ipset save`` to named sets.

::

    create pools hash:net family inet hashsize 1024 maxelem 65536
    add pools 10.0.0.0/8
    add pools 10.1.0.0/16 nomatch

Source: ipset(8).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from kvmdiag.model.matches import SetContains
from kvmdiag.model.netfilter import NamedSet, Table
from kvmdiag.parse.errors import ParseError


def parse_ipsets(text: str) -> tuple[NamedSet, ...]:
    """Sets in the order printed; elements without their time-outs, counters and comments.

    Raises:
        ParseError: it is not what ipset prints.
    """
    types: dict[str, str] = {}
    masks: dict[str, str] = {}
    elements: dict[str, list[str]] = {}
    for line in text.splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "create" and len(words) >= 3:
            types[words[1]] = words[2]
            elements[words[1]] = []
            if "netmask" in words[:-1]:
                masks[words[1]] = words[words.index("netmask") + 1]
        elif words[0] == "add" and len(words) >= 3 and words[1] in elements:
            elements[words[1]].append(_element(words[2:], masks.get(words[1])))
        else:
            msg = f"ipset printed a line that is no set's: {line[:80]!r}"
            raise ParseError(msg)
    return tuple(
        NamedSet(name=name, type=kind, elements=tuple(elements[name]))
        for name, kind in types.items()
    )


def _element(words: Sequence[str], mask: str | None) -> str:
    element = words[0]
    if mask is not None and "/" not in element:
        address, found, rest = element.partition(",")
        element = f"{address}/{mask}{found}{rest}"
    return f"{element} nomatch" if "nomatch" in words[1:] else element


def with_ipsets(tables: Iterable[Table], sets: Iterable[NamedSet]) -> tuple[Table, ...]:
    """The tables, each with the ipsets that its rules ask, and with the members of lists."""
    by_name = {entry.name: entry for entry in sets}
    return tuple(_with_own(table, by_name) for table in tables)


def asks_ipset(tables: Iterable[Table]) -> bool:
    """Whether any rule asks an ipset."""
    return any(_asked(table) for table in tables)


def _asked(table: Table) -> list[str]:
    return [
        part.name
        for chain in table.chains
        for rule in chain.rules
        for part in rule.body
        if isinstance(part, SetContains)
    ]


def _with_own(table: Table, by_name: dict[str, NamedSet]) -> Table:
    wanted = _asked(table)
    found: dict[str, NamedSet] = {}
    while wanted:
        name = wanted.pop()
        entry = by_name.get(name)
        if entry is not None and name not in found:
            found[name] = entry
            if entry.type == "list:set":
                wanted += entry.elements
    return replace(table, sets=(*table.sets, *found.values())) if found else table
