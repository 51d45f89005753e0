"""Whom the host asks for names, and so whom the name servers of its networks ask."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from kvmdiag.diagnose.programs import programs, settings
from kvmdiag.model.snapshot import Snapshot

_RESOLV = "/etc/resolv.conf"


def name_servers(snapshot: Snapshot) -> tuple[str, ...] | None:
    """The servers that the host's resolv.conf names; ``None`` when that was not read."""
    files = snapshot.persistent.files if snapshot.persistent is not None else ()
    content = next((file.content for file in files if file.path == _RESOLV), None)
    if content is None:
        return None
    return tuple(_named(content))


def _named(content: str) -> Iterator[str]:
    for line in content.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            address = words[1].partition("%")[0]
            try:
                yield str(ip_address(address))
            except ValueError:
                continue


def asks(snapshot: Snapshot, address: str) -> tuple[str, str] | None:
    """What makes the host ask this address for names, and where that stands."""
    if address in (name_servers(snapshot) or ()):
        return f"nameserver {address}", _RESOLV
    for name, keys in (("systemd-resolved", ("DNS",)), ("dnsmasq", ("server", "rev-server"))):
        for daemon in programs(snapshot, name):
            for key in keys:
                for path, value in settings(daemon, key):
                    if address in value.replace("/", " ").replace("#", " ").split():
                        return f"{key}={value}", path
    return None
