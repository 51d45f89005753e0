"""Whether a ruleset makes the kernel track connections.

Source: nf_ct_netns_get in net/netfilter/nf_conntrack_proto.c, and who calls it.
"""

from __future__ import annotations

from kvmdiag.model.matches import (
    AddressIs,
    ConntrackStateIs,
    FieldIs,
    InSet,
    MarkIs,
    Match,
    UnknownMatch,
)
from kvmdiag.model.netfilter import Table
from kvmdiag.model.statements import (
    CopyMark,
    SetMark,
    SetZone,
    Statement,
    Translation,
    UnknownStatement,
    ValueMap,
    VerdictMap,
)


def is_active(tables: tuple[Table, ...], family: str) -> bool:
    """Whether a rule makes the kernel track connections in this family.

    Conntrack is switched on by the first rule that needs it: a translation, or any match on
    the connection (nf_ct_netns_get). What a chain of type nat does and we do not understand is
    taken for a translation: thereby the chain is asked, and says that it cannot be told.
    """
    return any(
        _needs_conntrack(part) or (chain.type == "nat" and isinstance(part, UnknownStatement))
        for table in tables
        if table.family in (family, "inet")
        for chain in table.chains
        for rule in chain.rules
        for part in rule.body
    )


def _needs_conntrack(part: Match | Statement) -> bool:
    match part:
        case MarkIs() | SetMark():
            return part.of == "connection"
        case AddressIs():
            return part.of != "packet"
        case FieldIs():
            return part.field.startswith("ct ")
        case InSet() | VerdictMap():
            return any(field.startswith("ct ") for field in part.fields)
        case ValueMap():
            return part.action != "mark" or any(field.startswith("ct ") for field in part.fields)
        case UnknownMatch() | UnknownStatement():
            return part.text.startswith(_CONNECTION_WORDS)
        case ConntrackStateIs() | CopyMark() | SetZone():
            return True
    return isinstance(part, Translation)


# How rules begin that we do not understand and that ask about the connection nevertheless.
# The last are those of iptables' extensions as nft lists them (xt_register_matches, _targets).
_CONNECTION_WORDS = (
    *("ct ", "--ct", "-m conn", "-m helper", "-j CT", "-j CONNMARK", "synproxy"),
    *("xt match conn", "xt match state", "xt match helper", "xt target CT", "xt target CONN"),
    *("xt target SNAT", "xt target DNAT", "xt target MASQUERADE", "xt target REDIRECT"),
    "xt target NETMAP",
)
