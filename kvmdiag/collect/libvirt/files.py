"""Domains and networks without libvirt's daemon: from the files it keeps.

/run/libvirt/qemu/NAME.xml is there as long as a domain runs, and names its taps;
/etc/libvirt/qemu has what is defined; dnsmasq's leases are in /var/lib/libvirt/dnsmasq.
Source: libvirt, src/qemu/qemu_domain.c, src/network/bridge_driver.c, leaseshelper.c.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar
from xml.etree.ElementTree import Element

import msgspec

from kvmdiag.collect.libvirt.xml import parse_domain, parse_network, parsed
from kvmdiag.model.libvirt import Domain, Lease, Network

_LONGEST = 8 << 20
_T = TypeVar("_T")
_MOST_FILES = 4096


@dataclass(frozen=True)
class Places:
    """Where libvirt's daemon keeps its files."""

    run: str = "/run/libvirt"
    etc: str = "/etc/libvirt"
    lib: str = "/var/lib/libvirt"


class _Lease(msgspec.Struct, rename="kebab"):
    ip_address: str
    mac_address: str | None = None
    hostname: str | None = None
    expiry_time: int | None = None
    client_id: str | None = None


def domains(places: Places) -> tuple[Domain, ...]:
    """Running domains, and those that are only defined.

    Raises:
        OSError: the files may not be read.
        ValueError: one of them is not libvirt's.

    """
    live = {domain.name: domain for domain in _each(f"{places.run}/qemu", _live_domain)}
    for stored in _each(f"{places.etc}/qemu", lambda root: parse_domain(root, "shutoff")):
        live.setdefault(stored.name, stored)
    return tuple(live[name] for name in sorted(live))


def networks(places: Places) -> tuple[Network, ...]:
    """Active networks, and those that are only defined.

    Raises:
        OSError: the files may not be read.
        ValueError: one of them is not libvirt's.

    """
    started = _names(f"{places.etc}/qemu/networks/autostart")

    def network(root: Element, active: bool) -> Network:
        inner = root.find("network") if root.tag == "networkstatus" else root
        if inner is None:
            raise ValueError("a network's file has no network in it")
        name = inner.findtext("name", "")
        return parse_network(inner, active=active, autostart=name in started)

    found = {net.name: net for net in _each(f"{places.run}/network", lambda r: network(r, True))}
    for stored in _each(f"{places.etc}/qemu/networks", lambda root: network(root, False)):
        found.setdefault(stored.name, stored)
    return tuple(
        msgspec.structs.replace(found[name], leases=leases(places, found[name].bridge))
        for name in sorted(found)
    )


def leases(places: Places, bridge: str | None) -> tuple[Lease, ...] | None:
    """What dnsmasq has given away on a network's bridge; ``None`` when that cannot be read."""
    if bridge is None or "/" in bridge:
        return ()
    try:
        text = _content(Path(places.lib, "dnsmasq", f"{bridge}.status"))
        # libvirt empties the file rather than writing an empty list.
        told = msgspec.json.decode(text, type=list[_Lease]) if text.strip() else []
        return tuple(
            Lease(
                mac=(lease.mac_address or "").lower(),
                address=str(ip_address(lease.ip_address)),
                hostname=lease.hostname,
                expires=lease.expiry_time,
                client_id=lease.client_id,
            )
            for lease in told
        )
    except FileNotFoundError:
        return ()
    except (OSError, ValueError):
        return None


def firewall_backend(places: Places) -> str | None:
    """What network.conf says, ``None`` when it leaves that to libvirt or is not there."""
    try:
        text = _content(Path(places.etc, "network.conf"))
    except OSError:
        return None
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "firewall_backend":
            return value.strip().strip('"')[:32]
    return None


def _live_domain(root: Element) -> Domain:
    inner = root.find("domain")
    if root.tag != "domstatus" or inner is None:
        raise ValueError("a domain's status file has no domain in it")
    domain = parse_domain(inner, root.get("state", "nostate"))
    pid = root.get("pid", "")
    # A file that is left over from a crash tells of a process that is gone.
    gone = pid.isdecimal() and not os.path.exists(f"/proc/{pid}")
    return msgspec.structs.replace(
        domain, state="shutoff" if gone else domain.state, reason=root.get("reason")
    )


def _each(folder: str, make: Callable[[Element], _T]) -> Iterator[_T]:
    for name in sorted(_names(folder)):
        try:
            text = _content(Path(folder, f"{name}.xml"))
        except FileNotFoundError:
            continue
        yield make(parsed(text))


def _names(folder: str) -> set[str]:
    """The names of XML files in a folder."""
    try:
        entries = os.listdir(folder)
    except FileNotFoundError:
        return set()
    if len(entries) > _MOST_FILES:
        raise ValueError(f"{folder} has more than {_MOST_FILES} files")
    return {name.removesuffix(".xml") for name in entries if name.endswith(".xml")}


def _content(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise FileNotFoundError(path)
        return file.read(_LONGEST)
