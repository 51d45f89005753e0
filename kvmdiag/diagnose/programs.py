"""The programs beside the kernel on a host, and what their configuration says."""

from __future__ import annotations

from collections.abc import Iterator

from kvmdiag.model.daemons import Daemon
from kvmdiag.model.snapshot import Snapshot


def programs(snapshot: Snapshot, name: str) -> Iterator[Daemon]:
    """The daemons of that name that have to do with the host's own stack."""
    for daemon in snapshot.daemons or ():
        if daemon.name == name and daemon.stack in (None, snapshot.host):
            yield daemon


def runs(snapshot: Snapshot, *names: str) -> bool:
    """Whether one of these runs."""
    return any(daemon.running for name in names for daemon in programs(snapshot, name))


def settings(daemon: Daemon, key: str) -> Iterator[tuple[str, str]]:
    """The values of a setting, each with the file it is in; letter case does not matter."""
    for file in daemon.files:
        for setting in file.settings or ():
            if setting.key.lower() == key.lower():
                yield file.path, setting.value.strip('"')


def is_off(daemon: Daemon, key: str) -> bool:
    """Whether the last word of the configuration on a setting is no."""
    values = [value.lower() for _, value in settings(daemon, key)]
    return bool(values) and values[-1] in ("no", "false", "off", "0")
