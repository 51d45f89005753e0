"""What rules of iptables mean in a table that iptables itself refuses to print.

It does so as soon as a rule of nft is in it. nft's translation of such a table is loaded into
a namespace that lasts as long as the one program that does it, and which tells it in JSON.
"""

from __future__ import annotations

import json
from tempfile import NamedTemporaryFile

from kvmdiag.collect.netfilter.nf_netlink import is_plain
from kvmdiag.errors import KvmdiagError
from kvmdiag.model.netfilter import Table
from kvmdiag.parse.nft import parse_ruleset
from kvmdiag.parse.nft_listing import loadable, needs_translation, translated
from kvmdiag.system.programs import run


def with_translations(tables: tuple[Table, ...]) -> tuple[Table, ...]:
    """The tables; a rule that cannot be translated stays as unknown as it was."""
    return tuple(_with_translation(table) for table in tables)


def _with_translation(table: Table) -> Table:
    if not needs_translation(table) or not is_plain(table.name):
        return table
    try:
        listing = run(["nft", "list", "table", table.family, table.name])
        text, kept = loadable(listing.stdout)
        with NamedTemporaryFile("w", encoding="utf-8", suffix=".nft") as file:
            # With -j nft takes standard input for JSON, and only files for either.
            file.write(text)
            file.flush()
            echo = run(["unshare", "--net", "nft", "-j", "-e", "-f", file.name])
        if listing.returncode != 0 or echo.returncode != 0:
            return table
        said = json.loads(echo.stdout)["nftables"]
        added = [item["add"] for item in said if "add" in item]
        (elsewhere,) = parse_ruleset(json.dumps({"nftables": added}))
    except (KvmdiagError, OSError, ValueError, KeyError, TypeError):
        return table
    return translated(table, elsewhere, kept)
