"""Hosts as facts alone, and changes to them: for what namespaces of a kernel cannot show."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from kvmdiag.actions.address import AddAddress
from kvmdiag.actions.rule import InsertRule
from kvmdiag.model.libvirt import Domain, GuestNic, Lease
from kvmdiag.model.link import Link
from kvmdiag.model.netfilter import Table
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import NextHop, Route

from .build import found, judge
from .many import host_with

Change = Callable[[Snapshot], Snapshot]

MAC0, MAC1 = "52:54:00:01:00:00", "52:54:00:01:00:01"
replace = msgspec.structs.replace


def change(snapshot: Snapshot, stack: str = "host", **fields: object) -> Snapshot:
    """The snapshot with some fields of one stack replaced."""
    return snapshot.with_stack(replace(snapshot.stack(stack), **fields))


def link(name: str, stack: str = "host", /, **fields: object):
    """Change a link, or add it when it is not there."""

    def apply(snapshot: Snapshot) -> Snapshot:
        old = snapshot.stack(stack).links
        if any(each.name == name for each in old):
            links = tuple(replace(e, **fields) if e.name == name else e for e in old)
        else:
            links = (*old, Link(index=500 + len(old), name=name, **fields))
        return change(snapshot, stack, links=links)

    return apply


def domain(state: str = "running", stored=None, **nic: object):
    """One guest of libvirt's with one NIC."""
    nics = (GuestNic(**{"type": "network", "source": "default", "target": "vnet0", **nic}),)
    guest = Domain(name="vm0", state=state, nics=nics, stored_nics=stored)
    return lambda snapshot: replace(snapshot, domains=(guest,))


def network(**fields: object):
    """Change libvirt's network."""
    return lambda s: replace(s, networks=(replace(s.networks[0], **fields),))


def stack(name: str = "host", **fields: object):
    """Replace fields of a stack."""
    return lambda snapshot: change(snapshot, name, **fields)


def sysctls(**values: str):
    """Set sysctls of the host; a double underscore is a dot."""
    names = {key.replace("__", "."): value for key, value in values.items()}
    return lambda s: change(s, sysctls={**s.stack("host").sysctls, **names})


def every(*changes):
    """One change after the other."""

    def apply(snapshot: Snapshot) -> Snapshot:
        for each in changes:
            snapshot = each(snapshot)
        return snapshot

    return apply


def snapshot_with(**fields: object):
    """Replace fields of the snapshot."""
    return lambda snapshot: replace(snapshot, **fields)


def leases(*pairs: tuple[str, str]):
    """MAC and address of each lease."""
    return tuple(Lease(mac=mac, address=address) for mac, address in pairs)


def plus_routes(name: str, *routes: Route):
    """More routes."""
    return lambda s: change(s, name, routes=(*s.stack(name).routes, *routes))


def without_link(name: str, stack: str = "host") -> Change:
    """Without a link."""
    return lambda s: change(
        s, stack, links=tuple(e for e in s.stack(stack).links if e.name != name)
    )


def address(name: str, text: str, stack: str = "host") -> Change:
    """One more address, with the routes that come with it."""
    return AddAddress(stack=stack, link=name, address=text).apply


def no_address(name: str, stack: str = "host") -> Change:
    """A link without its addresses, and without the routes that the kernel takes with the last."""

    def apply(snapshot: Snapshot) -> Snapshot:
        old = snapshot.stack(stack)
        gone = [hop for hop in old.routes if any(way.link == name for way in hop.next_hops)]
        return change(
            snapshot,
            stack,
            addresses=tuple(a for a in old.addresses if a.link != name),
            routes=tuple(route for route in old.routes if route not in gone),
        )

    return apply


def route(destination: str, stack: str = "host", **fields: object) -> Change:
    """One more route; ``link`` and ``gateway`` make its next hop."""
    hop = NextHop(link=fields.pop("link", None), gateway=fields.pop("gateway", None))
    hops = (hop,) if hop != NextHop() else ()
    return plus_routes(stack, Route(destination=destination, next_hops=hops, **fields))


def no_default_route(stack: str = "host") -> Change:
    """Without the default route."""
    return lambda s: change(
        s, stack, routes=tuple(r for r in s.stack(stack).routes if r.destination != "0.0.0.0/0")
    )


def rule(text: str, chain: str = "FORWARD", table: str = "filter", stack: str = "host") -> Change:
    """A rule of iptables in front of all others of a chain, as iptables-save prints it."""
    return InsertRule(stack=stack, table=table, chain=chain, rule=text).apply


def policy(chain: str, verdict: str, stack: str = "host") -> Change:
    """The policy of a chain of iptables' filter table."""

    def apply(snapshot: Snapshot) -> Snapshot:
        tables = tuple(
            replace(
                table,
                chains=tuple(
                    replace(each, policy=verdict) if each.name == chain else each
                    for each in table.chains
                ),
            )
            if (table.family, table.name) == ("ip", "filter")
            else table
            for table in snapshot.stack(stack).tables
        )
        return change(snapshot, stack, tables=tables)

    return apply


def more_tables(*tables: Table, stack: str = "host") -> Change:
    """More tables."""
    return lambda s: change(s, stack, tables=(*s.stack(stack).tables, *tables))


class Proof(NamedTuple):
    """What shows that a check fires on its fault and not on what merely looks like it.

    ``asks`` are the arguments of :func:`judge` that both are asked with; ``trap_asks`` those for
    the trap where they differ. ``says`` is the role of what is found. The trap may be told as
    ``context`` where ``trap_says`` is that; else nothing may be said at all. ``base`` makes the
    healthy host that all begins with.
    """

    fault: Change
    trap: Change
    asks: tuple[object, ...] = ()
    trap_asks: tuple[object, ...] | None = None
    says: str | None = None
    trap_says: str | None = None
    base: Change = lambda snapshot: snapshot


def prove(check: str, proof: Proof) -> None:
    """Fires with evidence, is silent where nothing was changed, and on its trap."""
    healthy = proof.base(host_with(2))
    asks, trap_asks = proof.asks, proof.asks if proof.trap_asks is None else proof.trap_asks
    fired = found(judge(proof.fault(healthy), *asks), check)
    assert fired, "it does not fire"
    assert all(finding.evidence for finding in fired)
    assert proof.says is None or {finding.role for finding in fired} == {proof.says}
    assert found(judge(healthy, *asks), check) == [], "it fires on a healthy host"
    trapped = found(judge(proof.trap(healthy), *trap_asks), check)
    assert {finding.role for finding in trapped} <= {proof.trap_says}, "it fires on its trap"
