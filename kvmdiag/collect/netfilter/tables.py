"""All netfilter tables of a network namespace, of every family and backend.

Reading changes nothing: a legacy table is made by merely opening it, so only those that the
kernel names in ``/proc/net/ip_tables_names`` are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kvmdiag.collect.netfilter import nf_netlink
from kvmdiag.collect.netfilter.nf_tables import read_rulesets
from kvmdiag.collect.netfilter.programs import UnreadError, printed
from kvmdiag.errors import KvmdiagError
from kvmdiag.model.netfilter import Family, Table
from kvmdiag.model.snapshot import Gap
from kvmdiag.parse.errors import ParseError
from kvmdiag.parse.ipset import asks_ipset, parse_ipsets, with_ipsets
from kvmdiag.parse.iptables import parse_save
from kvmdiag.parse.join import MismatchError

_ATTEMPTS = 3
_LEGACY: tuple[tuple[Family, str, str], ...] = (
    ("ip", "ip_tables_names", "iptables-legacy-save"),
    ("ip6", "ip6_tables_names", "ip6tables-legacy-save"),
)
_NET = Path("/proc/thread-self/net")
_MODULES = Path("/sys/module")
_EBTABLES = ("filter", "nat", "broute")


def read_tables(stack: str) -> tuple[tuple[Table, ...] | None, tuple[Gap, ...]]:
    """Tables of the calling thread's namespace, and what could not be read.

    Tables are ``None`` as soon as one backend that may hold rules could not be read. Without
    iptables' own programs the tables are there, but what only they can explain is unknown
    in them; a gap says so.
    """
    gaps: list[Gap] = []
    try:
        tables = (*_of_nf_tables(stack, gaps), *_of_legacy())
        tables = _with_ipsets(stack, tables, gaps)
    except UnreadError as error:
        return None, (Gap(stack=stack, fact="tables", why=str(error), help=error.help),)
    except PermissionError:
        help_ = "run with sudo"
        return None, (Gap(stack=stack, fact="tables", why="needs root", help=help_),)
    except (KvmdiagError, OSError) as error:
        help_ = "run kvmdiag again; see whether nft list ruleset works"
        return None, (Gap(stack=stack, fact="tables", why=str(error), help=help_),)
    return tables, (*gaps, *_out_of_reach(stack))


def _out_of_reach(stack: str) -> Iterator[Gap]:
    """Tables of older kinds that may be there; asking for them would make them."""
    loaded = [name for name in _EBTABLES if (_MODULES / f"ebtable_{name}").exists()]
    if loaded:
        yield Gap(
            stack=stack,
            fact="ebtables-legacy tables",
            why=f"the kernel has ebtable_{loaded[0]} loaded, and reading it would create it",
            help="see whether ebtables-legacy -t nat -L shows rules",
        )
    try:
        names = (_NET / "arp_tables_names").read_text(encoding="ascii").split()
    except FileNotFoundError:
        names = []
    if names:
        yield Gap(
            stack=stack,
            fact="arptables-legacy tables",
            why="rules upon ARP are not looked at",
            help="see whether arptables-legacy -L shows rules",
        )


def _with_ipsets(stack: str, tables: tuple[Table, ...], gaps: list[Gap]) -> tuple[Table, ...]:
    """The tables with the ipsets their rules ask; what those hold is unknown without ipset."""
    if not asks_ipset(tables):
        return tables
    try:
        return with_ipsets(tables, parse_ipsets(printed(("ipset", "save"), "ipset")))
    except UnreadError as error:
        gaps.append(Gap(stack=stack, fact="ipsets", why=str(error), help=error.help))
        return tables


def _of_nf_tables(stack: str, gaps: list[Gap]) -> tuple[Table, ...]:
    """Read until nothing changed meanwhile."""
    for _attempt in range(_ATTEMPTS):
        before = nf_netlink.generation()
        names = nf_netlink.table_names()
        if not names:
            return ()
        unread: list[Gap] = []
        try:
            tables = read_rulesets(stack, names, unread)
        except MismatchError:
            continue
        if before == nf_netlink.generation():
            gaps += unread
            return tables
    raise UnreadError(
        f"the ruleset changed during each of {_ATTEMPTS} readings",
        "run kvmdiag again when nothing rewrites the rules",
    )


def _of_legacy() -> tuple[Table, ...]:
    tables: list[Table] = []
    for family, listing, program in _LEGACY:
        try:
            names = (_NET / listing).read_text(encoding="ascii").split()
        except FileNotFoundError:
            continue  # a kernel without legacy tables, or none was ever opened
        if not names:
            continue
        text = printed((program, "-c"), "iptables")
        read = parse_save(text, family=family, backend="iptables-legacy")
        missing = set(names) - {table.name for table in read}
        if missing:
            msg = f"{program} does not print table {min(missing)}"
            raise ParseError(msg)
        tables += read
    return tuple(tables)
