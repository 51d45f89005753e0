"""All netfilter tables of a network namespace, of every family and backend.

Reading changes nothing: a legacy table is made by merely opening it, so only those that the
kernel names in ``/proc/net/ip_tables_names`` are asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from kvmdiag.collect import nf_skeleton, nf_tables
from kvmdiag.collect.translation import with_translations
from kvmdiag.errors import KvmdiagError
from kvmdiag.model.netfilter import Chain, Family, Table, UnknownMatch, UnknownStatement
from kvmdiag.model.snapshot import Gap
from kvmdiag.parse import ebtables
from kvmdiag.parse.errors import ParseError
from kvmdiag.parse.ipset import asks_ipset, parse_ipsets, with_ipsets
from kvmdiag.parse.iptables import incompatible_tables, parse_save
from kvmdiag.parse.join import Key, MismatchError, join
from kvmdiag.parse.nft import parse_ruleset
from kvmdiag.system.programs import ProgramMissing, run

_ATTEMPTS = 3
_OWN_TABLES = frozenset({"filter", "nat", "mangle", "raw", "security", "broute"})
_SAVE: dict[Family, tuple[str, ...]] = {
    "ip": ("iptables-nft-save", "-c"),
    "ip6": ("ip6tables-nft-save", "-c"),
    "bridge": ("ebtables-nft-save",),
}
_LEGACY: tuple[tuple[Family, str, str], ...] = (
    ("ip", "ip_tables_names", "iptables-legacy-save"),
    ("ip6", "ip6_tables_names", "ip6tables-legacy-save"),
)
_NET = Path("/proc/thread-self/net")
_MODULES = Path("/sys/module")
_EBTABLES = ("filter", "nat", "broute")


class _UnreadError(KvmdiagError):
    """Tables that are there could not be read."""

    def __init__(self, why: str, help_: str) -> None:
        super().__init__(why)
        self.help = help_


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
    except _UnreadError as error:
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
        return with_ipsets(tables, parse_ipsets(_printed(("ipset", "save"), "ipset")))
    except _UnreadError as error:
        gaps.append(Gap(stack=stack, fact="ipsets", why=str(error), help=error.help))
        return tables


def _of_nf_tables(stack: str, gaps: list[Gap]) -> tuple[Table, ...]:
    """Read until nothing changed meanwhile."""
    for _attempt in range(_ATTEMPTS):
        before = nf_tables.generation()
        names = nf_tables.table_names()
        if not names:
            return ()
        unread: list[Gap] = []
        try:
            tables = _read_once(stack, names, unread)
        except MismatchError:
            continue
        if before == nf_tables.generation():
            gaps += unread
            return tables
    raise _UnreadError(
        f"the ruleset changed during each of {_ATTEMPTS} readings",
        "run kvmdiag again when nothing rewrites the rules",
    )


def _read_once(stack: str, names: frozenset[Key], gaps: list[Gap]) -> tuple[Table, ...]:
    tables = _of_iptables_alone(names)
    if tables is not None:
        return tables
    wanted = [family for family in _SAVE if any(f == family and n in _OWN_TABLES for f, n in names)]
    # Threads start in the network namespace of the one that starts them.
    with ThreadPoolExecutor(max_workers=1 + len(wanted)) as pool:
        listing = pool.submit(_printed, ("nft", "-j", "list", "ruleset"), "nftables")
        savings = [(f, pool.submit(_printed, _SAVE[f], "iptables")) for f in wanted]
        saved: list[Table] = []
        incompatible: set[Key] = set()
        unsaved: list[tuple[Family, _UnreadError]] = []
        # nft takes longest: what iptables printed is read meanwhile.
        for family, saving in savings:
            try:
                text = saving.result()
            except _UnreadError as error:
                unsaved.append((family, error))
                continue
            saved += (
                ebtables.parse_save(text)
                if family == "bridge"
                else parse_save(text, family=family, backend="iptables-nft")
            )
            incompatible |= {(family, name) for name in incompatible_tables(text)}
        explained = {(t.family, t.name) for t in saved if t.family != "bridge"} - incompatible
        listed = _on_links(parse_ruleset(listing.result(), handles_only=explained))
    tables = with_translations(join(listed, saved, frozenset(incompatible)))
    for family, why in unsaved:
        gaps += _meaning_gaps(stack, family, tables, why)
    return tables


def _of_iptables_alone(names: frozenset[Key]) -> tuple[Table, ...] | None:
    """The tables when iptables made them all and explains them, which spares asking nft.

    ``None`` when there is anything else, or anything goes wrong: then nft is asked.
    """
    if any(f not in nf_skeleton.FAMILIES or name not in _OWN_TABLES for f, name in names):
        return None
    families = sorted({family for family, _ in names})
    with ThreadPoolExecutor(max_workers=1 + len(families)) as pool:
        savings = [(f, pool.submit(_printed, _SAVE[f], "iptables")) for f in families]
        # The kernel writes down the rules while this thread reads what they mean.
        listing = pool.submit(nf_skeleton.skeleton, names)
        saved: list[Table] = []
        try:
            for family, saving in savings:
                text = saving.result()
                if incompatible_tables(text):
                    return None
                saved += parse_save(text, family=family, backend="iptables-nft")
            listed = listing.result()
            if listed is None or not names <= {(table.family, table.name) for table in saved}:
                return None
            return with_translations(join(listed, saved))
        except (_UnreadError, MismatchError, OSError, LookupError):
            return None


def _on_links(listed: tuple[Table, ...]) -> tuple[Table, ...]:
    """The same, with the links on which chains hang where nft did not print them."""
    if not any(_lacks_links(chain) for table in listed for chain in table.chains):
        return listed
    devices = nf_tables.chain_devices()

    def complete(table: Table, chain: Chain) -> Chain:
        if not _lacks_links(chain):
            return chain
        found = devices.get((table.family, table.name, chain.name), ())
        return msgspec.structs.replace(chain, devices=found)

    return tuple(
        msgspec.structs.replace(
            table, chains=tuple(complete(table, chain) for chain in table.chains)
        )
        for table in listed
    )


def _lacks_links(chain: Chain) -> bool:
    return chain.hook in ("ingress", "egress") and not chain.devices


def _meaning_gaps(
    stack: str, family: Family, listed: Iterable[Table], error: _UnreadError
) -> Sequence[Gap]:
    """A gap if nft alone leaves rules of that family unexplained."""
    unexplained = any(
        isinstance(part, UnknownMatch | UnknownStatement) and part.text.startswith("xt ")
        for table in listed
        if table.family == family
        for chain in table.chains
        for rule in chain.rules
        for part in rule.body
    )
    if not unexplained:
        return ()
    return (Gap(stack=stack, fact=f"meaning of {family} rules", why=str(error), help=error.help),)


def _of_legacy() -> tuple[Table, ...]:
    tables: list[Table] = []
    for family, listing, program in _LEGACY:
        try:
            names = (_NET / listing).read_text(encoding="ascii").split()
        except FileNotFoundError:
            continue  # a kernel without legacy tables, or none was ever opened
        if not names:
            continue
        text = _printed((program, "-c"), "iptables")
        read = parse_save(text, family=family, backend="iptables-legacy")
        missing = set(names) - {table.name for table in read}
        if missing:
            msg = f"{program} does not print table {min(missing)}"
            raise ParseError(msg)
        tables += read
    return tuple(tables)


def _printed(argv: Sequence[str], package: str) -> str:
    try:
        done = run(argv)
    except ProgramMissing as error:
        raise _UnreadError(f"{argv[0]} is not installed", f"install {package}") from error
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or ["no message"])[-1][:200]
        raise _UnreadError(f"{argv[0]} failed: {why}", f"see what {' '.join(argv)} says")
    return done.stdout
