"""What is read of a namespace that plays the host."""

from __future__ import annotations

from kvmdiag.collect.scope import Scope
from kvmdiag.collect.snapshot import collect
from kvmdiag.model.link import Link
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.model.stack import Stack


def snapshot(host) -> Snapshot:
    """The snapshot of the host and of what belongs to it."""
    return collect(Scope(host=host.path, libvirt=False))


def read(host) -> Stack:
    """The host's stack."""
    return snapshot(host).stack("host")


def links(host) -> dict[str, Link]:
    """The host's links by name."""
    return {link.name: link for link in read(host).links}


def link(host, name: str) -> Link:
    """The link of that name."""
    return links(host)[name]
