"""Guests without any libvirt: QEMU's command lines, and the taps its processes hold.

Source: qemu(1) (-name, -netdev, -device); proc(5); drivers/net/tun.c tun_chr_show_fdinfo.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path

import msgspec

from kvmdiag.model.libvirt import Domain, GuestNic
from kvmdiag.system.namespaces import identity

_PROGRAM = re.compile(r"(qemu-system-\w+|qemu-kvm|kvm)")
_IFF = re.compile(r"^iff:\s*(\S+)$", re.MULTILINE)
_LONGEST = 1 << 20
TapOf = Callable[[str], str | None]
Identity = tuple[int, int]
_AGENT = "org.qemu.guest_agent.0"


def read_processes(netns: Identity) -> tuple[Domain, ...]:
    """Guests whose QEMU runs in the network namespace of that identity, by name.

    Raises:
        PermissionError: there is one that may not be looked at.

    """
    return processes_by_namespace({netns}).get(netns, ())


def processes_by_namespace(wanted: Collection[Identity]) -> dict[Identity, tuple[Domain, ...]]:
    """The guests whose QEMU runs in each of these network namespaces, by name.

    Raises:
        PermissionError: there is one that may not be looked at.

    """
    found: dict[Identity, dict[str, Domain]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        # What ends while it is looked at was not there.
        with suppress(FileNotFoundError, ProcessLookupError):
            with Path("/proc", entry, "cmdline").open(encoding="utf-8", errors="replace") as file:
                arguments = file.read(_LONGEST).split("\0")
            if not _PROGRAM.fullmatch(Path(arguments[0]).name):
                continue
            netns = identity(f"/proc/{entry}/ns/net")
            if netns in wanted:
                guest = parse_command(arguments, partial(_tap, entry))
                found.setdefault(netns, {})[guest.name] = guest
    return {
        netns: tuple(guests[name] for name in sorted(guests)) for netns, guests in found.items()
    }


def parse_command(arguments: Sequence[str], tap_of: TapOf) -> Domain:
    """The guest that a QEMU command line makes.

    ``tap_of`` gives the name of the tap behind one of the process's descriptors.
    """
    netdevs = {}
    cards = []
    name, agent = "", None
    for option, value in _options(arguments):
        words = _words(value)
        if option == "name":
            name = words.get("guest") or words.get("") or name
        elif option == "netdev":
            netdevs[words.get("id", "")] = words
        elif option in ("device", "nic", "net"):
            if words.get("name") == _AGENT:
                agent = "unknown"
            if "netdev" in words:
                cards.append(words)
    nics = tuple(_nic(card, netdevs.get(card["netdev"], {}), tap_of) for card in cards)
    return Domain(name=name or "unnamed", state="running", nics=nics, agent=agent)


def _nic(card: dict[str, str], netdev: dict[str, str], tap_of: TapOf) -> GuestNic:
    descriptor = (netdev.get("fd") or netdev.get("fds", "")).split(":")[0]
    tap = netdev.get("ifname")
    if tap is None and descriptor.isdecimal():
        tap = tap_of(descriptor)
    mac = card.get("mac")
    kind = netdev.get("type") or netdev.get("", "")
    return GuestNic(
        type={"tap": "ethernet", "bridge": "bridge"}.get(kind, kind),
        mac=mac.lower() if mac else None,
        source=netdev.get("br"),
        target=tap,
        model=card.get("driver") or card.get(""),
    )


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    for option, value in pairwise(arguments):
        if option.startswith("-"):
            yield option.lstrip("-"), value


def _words(value: str) -> dict[str, str]:
    """``tap,fd=33,id=n0`` or ``{"type":"tap","fd":"33"}``; the word without a key is under ""."""
    if value.startswith("{"):
        try:
            told = msgspec.json.decode(value, type=dict[str, object])
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return {}
        return {key: str(content) for key, content in told.items()}
    found = {}
    for word in value.split(","):
        key, equals, content = word.partition("=")
        if equals:
            found[key] = content
        else:
            found.setdefault("", key)
    return found


def _tap(pid: str, descriptor: str) -> str | None:
    try:
        text = Path("/proc", pid, "fdinfo", descriptor).read_text()
    except OSError:
        return None
    named = _IFF.search(text)
    return named[1] if named else None
