"""Netfilter tables of a guest, from the programs inside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from kvmdiag.collect.guest.agent import AgentError
from kvmdiag.errors import KvmdiagError
from kvmdiag.model.netfilter import Family, Table
from kvmdiag.parse.errors import ParseError
from kvmdiag.parse.iptables import incompatible_tables, parse_save
from kvmdiag.parse.join import Key, MismatchError, join
from kvmdiag.parse.nft import parse_ruleset

Run = Callable[[str, Sequence[str]], str]
"""Runs a program inside the guest; what it prints. Raises AgentError."""

_LEGACY: tuple[tuple[Family, str, tuple[str, ...]], ...] = (
    ("ip", "/proc/net/ip_tables_names", ("iptables-legacy-save", "iptables-save")),
    ("ip6", "/proc/net/ip6_tables_names", ("ip6tables-legacy-save", "ip6tables-save")),
)
_SAVE: dict[Family, tuple[str, ...]] = {
    "ip": ("iptables-nft-save", "iptables-save"),
    "ip6": ("ip6tables-nft-save", "ip6tables-save"),
}
_EVERYWHERE = "/proc/sys/kernel/osrelease"  # the last of what is read of every guest
_OWN_TABLES = frozenset({"filter", "nat", "mangle", "raw", "security"})


class TablesUnreadError(KvmdiagError):
    """There may be rules that could not be read."""


def read_tables(content: Mapping[str, str], run: Run | None) -> tuple[Table, ...]:
    """All tables; ``content`` is that of files, ``run`` is ``None`` where nothing may be run.

    Raises:
        TablesUnreadError: there may be rules that could not be read.
        AgentError: the agent does not answer any more.

    """
    try:
        return (*_nf_tables(content, run), *_legacy(content, run))
    except (ParseError, MismatchError) as error:
        raise TablesUnreadError(f"its rules could not be understood: {error}") from None


def _nf_tables(content: Mapping[str, str], run: Run | None) -> tuple[Table, ...]:
    if _has_no_nf_tables(content):
        return ()
    if run is None:
        raise TablesUnreadError("nf_tables may hold rules, and no program may be run in the guest")
    listed = parse_ruleset(run("nft", ("-j", "list", "ruleset")))
    saved: list[Table] = []
    incompatible: set[Key] = set()
    for family, programs in _SAVE.items():
        if not any(table.family == family and table.name in _OWN_TABLES for table in listed):
            continue
        text = _first(run, programs)
        if text is None:
            continue  # what nft alone cannot explain stays unknown in the rules
        saved += parse_save(text, family=family, backend="iptables-nft")
        incompatible |= {(family, name) for name in incompatible_tables(text)}
    return join(listed, saved, frozenset(incompatible))


def _has_no_nf_tables(content: Mapping[str, str]) -> bool:
    """Whether there are certainly none: the module is neither loaded nor built in."""
    modules = content.get("/proc/modules")
    if modules is None or content.get("builtin nf_tables") != "0":
        return False
    return not any(line.startswith("nf_tables ") for line in modules.splitlines())


def _legacy(content: Mapping[str, str], run: Run | None) -> tuple[Table, ...]:
    """Tables of the legacy programs; only those that are there, since asking makes others."""
    if _EVERYWHERE not in content:
        raise TablesUnreadError("legacy tables may hold rules, and its /proc could not be read")
    found: list[Table] = []
    for family, listing, programs in _LEGACY:
        names = set(content.get(listing, "").split())
        if not names:
            continue
        text = None if run is None else _first(run, programs)
        if text is None:
            raise TablesUnreadError(f"{programs[0]} is not there, but legacy tables are")
        read = parse_save(text, family=family, backend="iptables-legacy")
        if names - {table.name for table in read}:
            raise TablesUnreadError(f"{programs[0]} does not print all tables that are there")
        found += read
    return tuple(found)


def _first(run: Run, programs: Sequence[str]) -> str | None:
    """What the first of these programs prints that is there."""
    for program in programs:
        try:
            return run(program, ("-c",))
        except AgentError:
            continue
    return None
