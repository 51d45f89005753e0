"""Hosts as facts alone, and changes to them: for what namespaces of a kernel cannot show."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from kvmdiag.model.libvirt import Domain, GuestNic, Lease
from kvmdiag.model.link import Link
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Route

from .build import found, judge
from .many import host_with

Change = Callable[[Snapshot], Snapshot]

MAC0, MAC1 = "52:54:00:01:00:00", "52:54:00:01:00:01"
replace = msgspec.structs.replace


def change(snapshot: Snapshot, stack: str = "host", **fields: object) -> Snapshot:
    """The snapshot with some fields of one stack replaced."""
    return snapshot.with_stack(replace(snapshot.stack(stack), **fields))


def link(name: str, stack: str = "host", **fields: object):
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


class Proof(NamedTuple):
    """What shows that a check fires on its fault and not on what merely looks like it.

    ``asks`` are the arguments of :func:`judge` that both are asked with; ``trap_asks`` those for
    the trap where they differ. ``says`` is the role of what is found. The trap may be told as
    ``context`` where ``trap_says`` is that; else nothing may be said at all.
    """

    fault: Change
    trap: Change
    asks: tuple[object, ...] = ()
    trap_asks: tuple[object, ...] | None = None
    says: str | None = None
    trap_says: str | None = None


def prove(check: str, proof: Proof) -> None:
    """Fires with evidence, is silent where nothing was changed, and on its trap."""
    asks, trap_asks = proof.asks, proof.asks if proof.trap_asks is None else proof.trap_asks
    fired = found(judge(proof.fault(host_with(2)), *asks), check)
    assert fired, "it does not fire"
    assert all(finding.evidence for finding in fired)
    assert proof.says is None or {finding.role for finding in fired} == {proof.says}
    assert found(judge(host_with(2), *asks), check) == [], "it fires on a healthy host"
    trapped = found(judge(proof.trap(host_with(2)), *trap_asks), check)
    assert {finding.role for finding in trapped} <= {proof.trap_says}, "it fires on its trap"
