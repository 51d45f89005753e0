"""What a restart of libvirt or Docker does to rules that people put among theirs.

Measured with libvirt 9.0: when its daemon or a network starts anew, or the daemon is reloaded,
libvirt deletes its rules and inserts them at the front of its own chains, so that foreign rules
in these end up behind; the jumps to its chains stay where they are. Docker deletes its jumps in
FORWARD and inserts them at the front (moby: firewaller's and iptables.EnsureJumpRule).
Sources: libvirt, src/network/network_iptables.c, network_nftables.c; moby,
daemon/libnetwork/iptables.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network

import msgspec

from kvmdiag.model.matches import AddressIs, ConntrackStateIs, InterfaceIs
from kvmdiag.model.netfilter import Chain, Rule, Table
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.statements import Accept, Jump, NoEffect, Reject

_LIBVIRT_TABLE = "libvirt_network"
_LIBVIRT_CHAINS = ("LIBVIRT_FWI", "LIBVIRT_FWO", "LIBVIRT_FWX")
_LIBVIRT_NFT = ("guest_input", "guest_output", "guest_cross")
# What Docker keeps in front, the first first.
_DOCKER_JUMPS = ("DOCKER-USER", "DOCKER-FORWARD", "DOCKER-ISOLATION-STAGE-1")
_OF_LIBVIRT = (InterfaceIs, AddressIs, ConntrackStateIs, Accept, Reject, NoEffect)


def after_libvirt(snapshot: Snapshot) -> Snapshot:
    """The host once libvirt has written its rules anew; the same snapshot where nothing moves."""
    return _with_chains(snapshot, _libvirt_first)


def after_docker(snapshot: Snapshot) -> Snapshot:
    """The host once Docker has put its jumps in front again."""
    return _with_chains(snapshot, _docker_first)


def is_foreign(table: Table, chain: Chain, rule: Rule) -> bool:
    """Whether a rule stands in one of libvirt's chains and is not libvirt's."""
    return _is_libvirts(table, chain) and not _made_by_libvirt(rule)


def _with_chains(
    snapshot: Snapshot, change: Callable[[Table, Chain], tuple[Rule, ...]]
) -> Snapshot:
    host = snapshot.stack(snapshot.host)
    moved = False
    tables = []
    for table in host.tables or ():
        chains = []
        for chain in table.chains:
            rules = change(table, chain)
            moved |= rules != chain.rules
            chains.append(msgspec.structs.replace(chain, rules=rules))
        tables.append(msgspec.structs.replace(table, chains=tuple(chains)))
    if not moved:
        return snapshot
    return snapshot.with_stack(msgspec.structs.replace(host, tables=tuple(tables)))


def _libvirt_first(table: Table, chain: Chain) -> tuple[Rule, ...]:
    if not _is_libvirts(table, chain):
        return chain.rules
    return tuple(sorted(chain.rules, key=lambda rule: not _made_by_libvirt(rule)))


def _is_libvirts(table: Table, chain: Chain) -> bool:
    if table.name == _LIBVIRT_TABLE:
        return chain.name in _LIBVIRT_NFT
    return table.name == "filter" and chain.name in _LIBVIRT_CHAINS


def _made_by_libvirt(rule: Rule) -> bool:
    """Its rules there are about whole networks and bridges: no host, no port, no protocol."""
    return all(
        isinstance(part, _OF_LIBVIRT)
        and not (isinstance(part, AddressIs) and any(map(_is_one_host, part.networks)))
        for part in rule.body
    )


def _is_one_host(text: str) -> bool:
    if "-" in text:
        return True  # a range of addresses is nothing that libvirt writes
    network = ip_network(text, strict=False)
    return network.prefixlen == network.max_prefixlen


def _docker_first(table: Table, chain: Chain) -> tuple[Rule, ...]:
    if table.name != "filter" or chain.hook != "forward" or table.backend == "nft":
        return chain.rules

    def place(rule: Rule) -> int:
        target = next((part.chain for part in rule.body if isinstance(part, Jump)), "")
        return _DOCKER_JUMPS.index(target) if target in _DOCKER_JUMPS else len(_DOCKER_JUMPS)

    return tuple(sorted(chain.rules, key=place))
