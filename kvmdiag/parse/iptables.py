"""Text of ``iptables-save -c``, of either family and backend, to tables.

::

    *filter
    :FORWARD DROP [10:840]
    :LIBVIRT_FWO - [0:0]
    [10:840] -A FORWARD -i virbr0 -j LIBVIRT_FWO
    COMMIT

Hooks and priorities are the kernel's: include/uapi/linux/netfilter_ipv4.h, iptable_*.c.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import msgspec

from kvmdiag.model.matches import Match, UnknownMatch
from kvmdiag.model.netfilter import Backend, Chain, Family, HookName, Rule, Table
from kvmdiag.model.statements import Goto, NoEffect, Statement, UnknownStatement
from kvmdiag.parse.errors import ParseError
from kvmdiag.parse.iptables_matches import EXTENSIONS, GENERAL, build, extension
from kvmdiag.parse.iptables_targets import statement
from kvmdiag.parse.words import Option, options

_HOOKS: dict[str, HookName] = {
    "PREROUTING": "prerouting",
    "INPUT": "input",
    "FORWARD": "forward",
    "OUTPUT": "output",
    "POSTROUTING": "postrouting",
}
_PRIORITIES = {"raw": -300, "mangle": -150, "filter": 0, "security": 50}
_DSTNAT, _SRCNAT = -100, 100

# The counters of a rule stand before it with -c.
_RULE = re.compile(r"(?:\[(\d+):(\d+)\] )?(-A (\S+)(?: .*)?)")
_APPENDED = re.compile(r"-A \S+ ?")
_CHAIN = re.compile(r":(\S+) (\S+)(?: \[(\d+):(\d+)\])?")
_INCOMPATIBLE = re.compile(r"^# Table `([^']+)' is incompatible", re.MULTILINE)

# iptables asks for no -m where -p names the extension.
_IMPLIED = {"tcp": "tcp", "udp": "udp", "icmp": "icmp", "icmpv6": "icmp6", "ipv6-icmp": "icmp6"}


def parse_save(text: str, *, family: Family, backend: Backend) -> tuple[Table, ...]:
    """Tables in the order printed.

    Raises:
        ParseError: a line belongs to no table, or to no chain of one.

    """
    sections: list[tuple[str, list[str]]] = []
    open_table = False
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("*") and not open_table:
            sections.append((line[1:].strip(), []))
            open_table = True
        elif not open_table:
            msg = f"iptables-save printed a line outside of any table: {line[:80]!r}"
            raise ParseError(msg)
        elif line.strip() == "COMMIT":
            open_table = False
        else:
            sections[-1][1].append(line)
    if open_table:
        msg = f"iptables-save broke off in table {sections[-1][0][:80]!r}"
        raise ParseError(msg)
    return tuple(_table(name, lines, family, backend) for name, lines in sections)


def parse_rule(text: str, *, family: Family = "ip") -> Rule:
    """One rule, ``-i mybr0 -o mybr0 -j ACCEPT``, with or without ``-A CHAIN`` before it.

    A target that is none of iptables' own is taken for a chain.
    """
    return _Parser(family, None).rule(text.strip())


def incompatible_tables(text: str) -> frozenset[str]:
    """Tables that iptables-nft-save could not print, because rules of nft are in them."""
    return frozenset(_INCOMPATIBLE.findall(text))


def base_chain(
    table: str, chain: str
) -> tuple[HookName, Literal["filter", "nat", "route"], int] | None:
    """Hook, type and priority of a built-in chain; ``None`` for a chain of the user's."""
    hook = _HOOKS.get(chain)
    if hook is None:
        return None
    if table == "nat":
        return hook, "nat", _DSTNAT if chain in ("PREROUTING", "OUTPUT") else _SRCNAT
    if table not in _PRIORITIES:
        return None
    kind: Literal["filter", "route"] = "filter"
    if (table, chain) == ("mangle", "OUTPUT"):
        kind = "route"
    return hook, kind, _PRIORITIES[table]


def _table(name: str, lines: Sequence[str], family: Family, backend: Backend) -> Table:
    chains: dict[str, Chain] = {}
    written: dict[str, list[tuple[str, int | None, int | None]]] = {}
    for line in lines:
        if declared := _CHAIN.fullmatch(line.rstrip()):
            chain = _chain(name, *declared.groups())
            chains[chain.name] = chain
            written.setdefault(chain.name, [])
        elif rule := _RULE.fullmatch(line.rstrip()):
            packets, size, text, owner = rule.groups()
            written.setdefault(owner, []).append((text, _count(packets), _count(size)))
        else:
            msg = f"iptables-save printed a line that is no rule in {name[:80]!r}: {line[:80]!r}"
            raise ParseError(msg)
    known = frozenset(written)
    parse = _Parser(family, known)
    return Table(
        family=family,
        name=name,
        backend=backend,
        chains=tuple(
            msgspec.structs.replace(
                chains.get(owner) or Chain(name=owner),
                rules=tuple(parse.rule(*rule) for rule in rules),
            )
            for owner, rules in written.items()
        ),
    )


def _chain(table: str, name: str, policy: str, packets: str | None, size: str | None) -> Chain:
    base = base_chain(table, name)
    if base is None or policy == "-":
        return Chain(name=name)
    hook, kind, priority = base
    return Chain(
        name=name,
        hook=hook,
        type=kind,
        priority=priority,
        policy="drop" if policy == "DROP" else "accept",
        packets=_count(packets),
        bytes=_count(size),
    )


def _count(text: str | None) -> int | None:
    return int(text) if text and len(text) <= 20 else None


class _Parser:
    """Rules of one table. Many have the same matches and target: those are read once."""

    def __init__(self, family: Family, chains: frozenset[str] | None) -> None:
        self._family = family
        self._chains = chains
        self._known: dict[str, tuple[tuple[Match | Statement, ...], str | None]] = {}

    def rule(self, text: str, packets: int | None = None, size: int | None = None) -> Rule:
        """The rule, which may begin with ``-A CHAIN``."""
        begin = _APPENDED.match(text)
        own = text[begin.end() :] if begin else text
        known = self._known.get(own)
        if known is None:
            known = self._known[own] = self._read(own)
        body, comment = known
        return Rule(body=body, text=text, packets=packets, bytes=size, comment=comment)

    def _read(self, text: str) -> tuple[tuple[Match | Statement, ...], str | None]:
        try:
            given = options(text)
        except ValueError as error:
            unread = f"{text[:200]} ({error})"
            return (UnknownMatch(text=unread), UnknownStatement(text=unread)), None
        comment = next((o.values[0] for o in given if o.name == "--comment" and o.values), None)
        given = tuple(o for o in given if o.name not in ("-A", "--append"))
        return _body(given, self._family, self._chains), comment


def _body(
    given: Sequence[Option], family: Family, chains: frozenset[str] | None
) -> tuple[Match | Statement, ...]:
    general, extensions, targets = _sorted(given)
    matches = [build(GENERAL[option.name], option, family) for option in general]
    for name, own in extensions:
        matches += extension(name, own, family)
    statements: list[Statement] = []
    for option, own in targets:
        if len(option.values) != 1 or option.negate:
            statements.append(UnknownStatement(text=option.text))
        elif option.name in ("-g", "--goto"):
            statements.append(Goto(chain=option.value))
        else:
            statements.append(statement(option.value, own, family, chains))
    return (
        *(match for match in matches if match is not None),
        *(statements or (NoEffect(text="no target"),)),
    )


_Extensions = list[tuple[str, list[Option]]]


def _sorted(
    given: Sequence[Option],
) -> tuple[list[Option], _Extensions, list[tuple[Option, list[Option]]]]:
    """Options apart: general ones, those of each ``-m``, and those of the target.

    An option belongs to what stands before it, unless that is an extension that does not
    have it and an earlier one, or the one implied by ``-p``, does.
    """
    general: list[Option] = []
    extensions: _Extensions = []
    targets: list[tuple[Option, list[Option]]] = []
    implied: str | None = None
    for option in given:
        if option.name in GENERAL:
            general.append(option)
            if option.name in ("-p", "--protocol", "--proto") and option.values:
                implied = _IMPLIED.get(option.values[0].lower())
        elif option.name in ("-m", "--match"):
            extensions.append((" ".join(option.values), []))
        elif option.name in ("-j", "--jump", "-g", "--goto"):
            targets.append((option, []))
        elif targets:
            targets[-1][1].append(option)
        else:
            _owner(option, extensions, implied).append(option)
    return general, extensions, targets


def _owner(option: Option, extensions: _Extensions, implied: str | None) -> list[Option]:
    if extensions and option.name in EXTENSIONS.get(extensions[-1][0], ()):
        return extensions[-1][1]
    for name, own in extensions:
        if option.name in EXTENSIONS.get(name, ()):
            return own
    if implied and option.name in EXTENSIONS[implied]:
        extensions.append((implied, []))
    elif not extensions:
        extensions.append(("", []))
    return extensions[-1][1]
