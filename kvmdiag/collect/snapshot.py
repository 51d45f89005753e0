"""Everything at once: the host, the namespaces that belong to it, and libvirt's guests."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from kvmdiag import __version__
from kvmdiag.collect.guest.facts import GuestReading
from kvmdiag.collect.guests import (
    libvirt_agents,
    not_looked_into,
    plugged_in,
    read_guests,
    unreachable,
)
from kvmdiag.collect.libvirt.daemon import Guests
from kvmdiag.collect.libvirt.inventory import not_asked, read_files, read_libvirt
from kvmdiag.collect.libvirt.qemu_processes import processes_by_namespace
from kvmdiag.collect.persistent import read_persistent
from kvmdiag.collect.processes.daemons import read_daemons
from kvmdiag.collect.scope import Scope
from kvmdiag.collect.stacks import HOST, read_stacks
from kvmdiag.collect.unknown import left_unknown
from kvmdiag.model.libvirt import Domain
from kvmdiag.model.snapshot import Gap, Snapshot
from kvmdiag.model.stack import OWN_NETNS, Stack
from kvmdiag.system.memory import uncollected

_Fact = TypeVar("_Fact")
_NO_FILES = Gap(
    stack=None,
    fact="persistent",
    why="a namespace that stands for a host has no configuration files of its own",
    help="it never boots; nothing is missing",
    expected=True,
)


@uncollected()
def collect(scope: Scope, tell: Callable[[str], None] = lambda _: None) -> Snapshot:
    """Read all facts of the scope, changing nothing.

    What cannot be read is ``None`` and named by a gap. ``tell`` is called with what is read
    next; it may take long.

    Raises:
        NotReadableError: the namespace that is to be the host cannot be entered.

    """
    taken_at = datetime.now(UTC).isoformat(timespec="seconds")
    readings, gaps = read_stacks(scope, tell)
    tell("asking libvirt")
    guests = _libvirt(scope, next(iter(readings)))
    stacks = [reading.stack for reading in readings.values()]
    tell("looking into guests")
    inside, guest_gaps = _insides(scope, guests, [stack.name for stack in stacks])
    seen_host, *seen_guests = plugged_in(stacks[0], guests.domains, inside or ())
    domains, others = _in_pods(guests.domains, {w: r.stack for w, r in list(readings.items())[1:]})
    namespaces = {which: reading.stack.name for which, reading in readings.items()}
    # The files of this machine say nothing of a namespace that merely stands for a host.
    own = scope.host == OWN_NETNS
    tell("reading configuration")
    daemons, daemon_gaps = _alone("daemons", lambda: read_daemons(namespaces, configured=own))
    persistent, persistent_gaps = (
        _alone("persistent", read_persistent) if own else (None, (_NO_FILES,))
    )
    return Snapshot(
        tool=f"kvmdiag {__version__}",
        taken_at=taken_at,
        kernel=os.uname().release,
        host=HOST,
        stacks=(seen_host, *others, *seen_guests),
        domains=domains,
        networks=guests.networks,
        libvirt=guests.libvirt,
        guests=None if inside is None else tuple(reading.inside for reading in inside),
        daemons=daemons,
        persistent=persistent,
        gaps=(
            *(g for reading in readings.values() for g in reading.gaps),
            *gaps,
            *left_unknown(stacks),
            *guests.gaps,
            *guest_gaps,
            *daemon_gaps,
            *persistent_gaps,
        ),
    )


def _alone(
    fact: str, read: Callable[[], tuple[_Fact, tuple[Gap, ...]]]
) -> tuple[_Fact | None, tuple[Gap, ...]]:
    """What a source tells; if it fails, the fact is unknown and all others are there."""
    try:
        return read()
    except OSError as error:
        why = f"{fact} cannot be read: {error.strerror or error}"
        return None, (Gap(stack=None, fact=fact, why=why, help="run as root (sudo)"),)


def _libvirt(scope: Scope, netns: tuple[int, int]) -> Guests:
    if not scope.libvirt:
        return not_asked()
    if not scope.daemon:
        return read_files(scope.places, netns)
    return read_libvirt(scope.connect, scope.places, netns)


def _in_pods(
    domains: tuple[Domain, ...] | None, stacks: Mapping[tuple[int, int], Stack]
) -> tuple[tuple[Domain, ...] | None, tuple[Stack, ...]]:
    """The guests whose QEMU runs in a namespace beside the host's, as KubeVirt's do.

    No libvirt of the host knows them. Their domains come after the host's; a name that is taken
    is not taken twice.
    """
    try:
        found = processes_by_namespace(stacks.keys())
    except PermissionError:
        return domains, tuple(stacks.values())
    named = {domain.name for domain in domains or ()}
    added: list[Domain] = []
    seen = []
    for which, stack in stacks.items():
        mine = [guest for guest in found.get(which, ()) if guest.name not in named]
        named |= {guest.name for guest in mine}
        added += mine
        seen.append(plugged_in(stack, mine, ())[0] if mine else stack)
    return (*(domains or ()), *added) if added else domains, tuple(seen)


def _insides(
    scope: Scope, guests: Guests, taken: list[str]
) -> tuple[tuple[GuestReading, ...] | None, tuple[Gap, ...]]:
    """The insides of libvirt's guests, as far as they may be looked into."""
    if guests.domains is None:
        return None, ()
    if scope.guest_access == "none":
        return None, not_looked_into(guests.domains)
    if guests.libvirt is None:
        return None, unreachable(guests.domains)
    inside = read_guests(guests.domains, libvirt_agents(scope.connect), taken)
    return inside, tuple(gap for reading in inside for gap in reading.gaps)
