"""What a command works on: the facts of a file or of the live host, and the path asked about."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, cast

from kvmdiag.commands.options import Options
from kvmdiag.commands.terminal import progress
from kvmdiag.errors import UsageError

if TYPE_CHECKING:
    from kvmdiag.collect.scope import Scope
    from kvmdiag.model.packet import Protocol
    from kvmdiag.model.question import Question
    from kvmdiag.model.snapshot import Snapshot


def scope_of(options: Options) -> Scope:
    """Where to read the live facts."""
    from kvmdiag.collect.scope import Scope

    if options.lab is not None:
        from kvmdiag.lab import manager

        scope = manager.scope(options.lab)
        return dataclasses.replace(
            scope,
            exclude=(*scope.exclude, *(options.exclude_netns or ())),
            guest_access=options.guest_access,
        )
    return Scope(
        exclude=tuple(options.exclude_netns or ()),
        connect=options.connect,
        guest_access=options.guest_access,
    )


def facts(options: Options, *, unprivileged: bool = False) -> Snapshot:
    """What was read, with guests whose inside is not seen assumed to be in order.

    ``unprivileged`` takes what can be read without being root.

    Raises:
        InputError: the file is missing, damaged or of an unknown version.
        NotReadableError: the live host does not let itself be read.

    """
    from kvmdiag.simulate.facts.unseen import assume_guests

    return assume_guests(read_facts(options, unprivileged=unprivileged))


def read_facts(options: Options, *, unprivileged: bool = False) -> Snapshot:
    """The snapshot of the file the user named, else of the live host, and nothing assumed.

    ``unprivileged`` takes what can be read without being root.

    Raises:
        InputError: the file is missing, damaged or of an unknown version.
        NotReadableError: the live host does not let itself be read.

    """
    if options.snapshot is not None:
        from kvmdiag.commands.files import read_snapshot

        return read_snapshot(options.snapshot)
    scope = scope_of(options)
    if os.geteuid() != 0 and not unprivileged:
        from kvmdiag.errors import NotReadableError

        raise NotReadableError(
            "netfilter rules and other network namespaces can be read by root only; "
            "run as root: sudo kvmdiag ..."
        )
    from kvmdiag.collect.snapshot import collect

    with progress("reading the host", options) as tell:
        return collect(scope, tell)


def question(snapshot: Snapshot, source: str, destination: str, options: Options) -> Question:
    """The path the user asks about.

    Raises:
        UsageError: an end is unknown, or what was asked does not fit together.

    """
    from kvmdiag.simulate.endpoints import UnknownNameError, resolve

    if options.port is not None and options.proto == "icmp":
        raise UsageError("icmp has no ports; with --port goes --proto tcp or --proto udp")
    if options.port is None and options.proto != "icmp":
        raise UsageError(f"which {options.proto} service is meant? say --port N")

    def ask(source: str, destination: str) -> Question:
        return resolve(
            snapshot,
            source,
            destination,
            proto=cast("Protocol", options.proto),  # the option lets nothing else pass
            port=options.port,
            version=options.version,
        )

    try:
        return ask(source, destination)
    except UnknownNameError as unknown:
        from kvmdiag.commands.names import look_up, named

        address = look_up(unknown.name, options.version)
        if address is None or unknown.name != destination:
            raise
        return named(ask(source, address), destination)
