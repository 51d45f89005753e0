"""Which program keeps a link's configuration, by the files that are read at boot.

Sources: netplan(5), systemd.network(5), interfaces(5), nm-settings-keyfile(5), libvirt's format of
networks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

from kvmdiag.model.persistent import Source, StoredFile
from kvmdiag.model.snapshot import Snapshot

Kind = Literal["libvirt", "netplan", "networkd", "networkmanager", "ifupdown"]


class Manager(NamedTuple):
    """Who configures a link; ``name`` is that of the file, the connection or the network."""

    kind: Kind
    name: str


def manager_of(snapshot: Snapshot, stack: str, link: str) -> Manager | None:
    """Who configures a link of the host; ``None`` when nothing that was read says so.

    Other stacks are not configured by the host's files.
    """
    if stack != snapshot.host:
        return None
    for network in snapshot.networks or ():
        # A network of mode bridge uses a bridge that is somebody else's.
        if network.bridge == link and network.mode != "bridge":
            return Manager("libvirt", network.name)
    return next(_by_files(snapshot, link), None)


def defined(snapshot: Snapshot, link: str) -> bool | None:
    """Whether a link of the host is there again after a reboot; ``None``: no files were read."""
    if snapshot.persistent is None:
        return None
    if any(file.content is None for file in snapshot.persistent.files):
        return None
    return manager_of(snapshot, snapshot.host, link) is not None


def runs(snapshot: Snapshot, name: str) -> bool:
    """Whether a program of that name runs on the host."""
    return any(
        daemon.running and daemon.name == name and daemon.stack in (None, snapshot.host)
        for daemon in snapshot.daemons or ()
    )


def stored(snapshot: Snapshot, source: Source) -> tuple[StoredFile, ...]:
    """The files of one kind that are read at boot."""
    files = () if snapshot.persistent is None else snapshot.persistent.files
    return tuple(file for file in files if file.source == source)


def _by_files(snapshot: Snapshot, link: str) -> Iterator[Manager]:
    # netplan writes files for the others into /run; its own come first.
    name = re.escape(link)
    for file in stored(snapshot, "netplan"):
        if re.search(rf"""^\s+["']?{name}["']?\s*:\s*(#.*)?$""", file.content or "", re.MULTILINE):
            yield Manager("netplan", file.path)
    for file in stored(snapshot, "networkd"):
        if file.path.endswith(".network") and _matches(file.content or "", link):
            yield Manager("networkd", file.path)
    for file in stored(snapshot, "networkmanager"):
        settings = dict(re.findall(r"^([\w.-]+)\s*=\s*(.*?)\s*$", file.content or "", re.MULTILINE))
        if settings.get("interface-name") == link:
            yield Manager("networkmanager", settings.get("id", link))
    for file in stored(snapshot, "ifupdown"):
        if re.search(rf"^\s*iface\s+{name}\s", file.content or "", re.MULTILINE):
            yield Manager("ifupdown", file.path)


def _matches(network: str, link: str) -> bool:
    """Whether a .network file is for a link: ``Name=`` in its ``[Match]``, with globs."""
    section = network.partition("[Match]")[2].partition("\n[")[0]
    patterns = re.findall(r"^\s*Name\s*=\s*(.*)$", section, re.MULTILINE)
    return any(fnmatchcase(link, glob) for line in patterns for glob in line.split())
