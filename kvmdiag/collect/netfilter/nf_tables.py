"""The tables of nf_tables, each from whoever tells it best and quickest.

iptables prints what the rules mean that it made, the kernel itself knows their handles, and nft
prints all other tables, and those of iptables' that somebody else has a hand in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import msgspec

from kvmdiag.collect.netfilter import nf_netlink, skeleton
from kvmdiag.collect.netfilter.programs import RefusedError, UnreadError, printed
from kvmdiag.collect.netfilter.translation import with_translations
from kvmdiag.model.matches import UnknownMatch
from kvmdiag.model.netfilter import Chain, Family, Table
from kvmdiag.model.snapshot import Gap
from kvmdiag.model.statements import UnknownStatement
from kvmdiag.parse import ebtables
from kvmdiag.parse.errors import ParseError
from kvmdiag.parse.iptables import incompatible_tables, parse_save
from kvmdiag.parse.join import Key, MismatchError, join
from kvmdiag.parse.nft import parse_ruleset

_MADE_BY_IPTABLES = frozenset({"filter", "nat", "mangle", "raw", "security", "broute"})
_SAVE: Mapping[Family, tuple[str, ...]] = {
    "ip": ("iptables-nft-save", "-c"),
    "ip6": ("ip6tables-nft-save", "-c"),
    "bridge": ("ebtables-nft-save",),
}
# With more than these nft is quicker when asked for everything at once.
_MOST_ASKED_ONE_BY_ONE = 8


def read_rulesets(stack: str, names: Sequence[Key], gaps: list[Gap]) -> tuple[Table, ...]:
    """The tables of these names, as they are at this moment, in that order.

    Without iptables' own programs the tables are there, but what only they can explain is
    unknown in them; a gap says so.

    Raises:
        MismatchError: the ruleset changed meanwhile.
        UnreadError: there are tables that no program could print.
        ParseError: a program printed something else.

    """
    theirs = [k for k in names if k[0] in skeleton.FAMILIES and k[1] in _MADE_BY_IPTABLES]
    others = [key for key in names if key not in theirs]
    # Threads start in the network namespace of the one that starts them.
    with ThreadPoolExecutor(max_workers=2 + len(_SAVE) + _MOST_ASKED_ONE_BY_ONE) as pool:
        asked = _ask_nft(pool, others, known=theirs)
        # The kernel writes down the rules while this thread reads what they mean.
        outlining = pool.submit(_outlined, theirs)
        saved, incompatible, unsaved = _saved(pool, names)
        explained = {(table.family, table.name) for table in saved} - incompatible
        outlined = {key: t for key, t in outlining.result().items() if key in explained}
        rest = [key for key in theirs if key not in outlined]
        told = [*asked, *_ask_nft(pool, rest)]
        listed = {(t.family, t.name): t for one in told for t in one.result()} | outlined
    if not listed.keys() >= set(names):
        raise MismatchError("a table has gone while it was read")
    tables = with_translations(join([listed[key] for key in names], saved, frozenset(incompatible)))
    for family, why in unsaved.items():
        gaps += _meaning_gaps(stack, family, tables, why)
    return tables


def _saved(
    pool: Executor, names: Sequence[Key]
) -> tuple[list[Table], set[Key], dict[Family, UnreadError]]:
    """What iptables' programs print, which tables they refuse to, and why they failed."""
    saved: list[Table] = []
    incompatible: set[Key] = set()
    unsaved: dict[Family, UnreadError] = {}
    for family, saving in [(f, pool.submit(_save, f, names)) for f in _SAVE]:
        text, error = saving.result()
        if error is not None:
            unsaved[family] = error
        if text:
            saved += (
                ebtables.parse_save(text)
                if family == "bridge"
                else parse_save(text, family=family, backend="iptables-nft")
            )
            incompatible |= {(family, name) for name in incompatible_tables(text)}
    return saved, incompatible, unsaved


def _save(family: Family, names: Sequence[Key]) -> tuple[str, UnreadError | None]:
    """The tables of one family as its own program prints them, and why some are missing."""
    own = [name for f, name in names if f == family and name in _MADE_BY_IPTABLES]
    if not own:
        return "", None
    try:
        return printed(_SAVE[family], "iptables"), None
    except RefusedError as error:
        if family == "bridge":
            return "", error
        failure: UnreadError = error
    except UnreadError as error:
        return "", error
    # It stops at the first rule that it cannot print; other tables have none such.
    texts = []
    for name in own:
        try:
            texts.append(printed((*_SAVE[family], "-t", name), "iptables"))
        except UnreadError as error:
            failure = error
    return "".join(texts), failure


def _outlined(keys: Sequence[Key]) -> dict[Key, Table]:
    """Those of which the kernel told all that iptables leaves out; none if it said odd things."""
    try:
        return skeleton.skeletons(keys)
    except (OSError, LookupError):
        return {}


def _ask_nft(
    pool: Executor, keys: Sequence[Key], *, known: Sequence[Key] = ()
) -> list[Future[tuple[Table, ...]]]:
    """What nft prints of these tables, being made; of ``known`` ones nothing is wanted."""
    if len(keys) > _MOST_ASKED_ONE_BY_ONE or not all(nf_netlink.is_plain(n) for _, n in keys):
        return [pool.submit(_everything, keys, known)]
    return [pool.submit(_one, key) for key in keys]


def _one(key: Key) -> tuple[Table, ...]:
    try:
        text = printed(("nft", "-j", "list", "table", *key), "nftables")
        return _on_links(parse_ruleset(text))
    except (RefusedError, ParseError):
        # It has gone since, its name is a word of nft's, or a program owns it: of such a table
        # alone nft (1.0.6) prints half an object.
        return _everything((key,), ())


def _everything(keys: Sequence[Key], known: Sequence[Key]) -> tuple[Table, ...]:
    text = printed(("nft", "-j", "list", "ruleset"), "nftables")
    every = parse_ruleset(text, handles_only=known)
    return _on_links(tuple(t for t in every if (t.family, t.name) in keys))


def _on_links(listed: tuple[Table, ...]) -> tuple[Table, ...]:
    """The same, with the links on which chains hang where nft did not print them."""
    if not any(_lacks_links(chain) for table in listed for chain in table.chains):
        return listed
    devices = nf_netlink.chain_devices()

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
    stack: str, family: Family, listed: Iterable[Table], error: UnreadError
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
