"""Which network namespaces there are on this machine, and by which names people know them.

Named ones (``ip netns``) come first; a namespace without a name is known by its oldest
process. Source: ip-netns(8), proc(5), network_namespaces(7).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kvmdiag.collect.scope import Scope
from kvmdiag.model.stack import NAMED_NETNS, OWN_NETNS
from kvmdiag.system.namespaces import identity

PRACTICE_PREFIX = "kvmdiag-"
_PROC = Path("/proc")
# More processes than this are not looked at; a namespace has to have one of the oldest.
_MOST_PROCESSES = 65536
_ODD = re.compile(r"[^A-Za-z0-9_.-]")

Identity = tuple[int, int]


@dataclass(frozen=True)
class Namespace:
    """A network namespace. ``named`` tells those of ``ip netns`` from those of processes."""

    path: str
    name: str
    identity: Identity
    named: bool


@dataclass(frozen=True)
class Known:
    """All namespaces that could be told apart.

    ``hidden`` is true when there are processes whose namespace may not be looked at.
    """

    namespaces: Mapping[Identity, Namespace]
    hidden: bool

    def belonging(self, scope: Scope, host: Identity) -> tuple[Namespace, ...]:
        """Those that are looked at whether or not a cable leads to them.

        All with a name belong to the machine kvmdiag runs on; those included by name belong
        to whatever is looked at.
        """
        whole = self._is_machine(scope, host)
        return tuple(
            namespace
            for namespace in self.namespaces.values()
            if namespace.identity != host
            and self.admits(scope, host, namespace)
            and (bool(scope.include) or (namespace.named and whole))
        )

    def admits(self, scope: Scope, host: Identity, namespace: Namespace) -> bool:
        """Whether the scope lets it be looked at, should it belong to the host."""
        practice = namespace.name.startswith(PRACTICE_PREFIX)
        if practice and not scope.include and self._is_machine(scope, host):
            return False
        return scope.takes(namespace.name)

    def _is_machine(self, scope: Scope, host: Identity) -> bool:
        """Whether the host is the real one, as far as can be told, not a namespace on it."""
        itself = self.namespaces.get(host)
        return scope.host == OWN_NETNS and (itself is None or not itself.named)


def known_namespaces() -> Known:
    """Every namespace with a name or with a process."""
    found: dict[Identity, Namespace] = {}
    for namespace in _named():
        found.setdefault(namespace.identity, namespace)
    hidden = False
    for pid in _processes():
        path = f"/proc/{pid}/ns/net"
        try:
            which = identity(path)
        except PermissionError:
            hidden = True
            continue
        except OSError:
            # It has ended since.
            continue
        if which not in found:
            found[which] = Namespace(path, f"{_command(pid)}-{pid}", which, named=False)
    return Known(found, hidden)


def unique(name: str, taken: Iterable[str]) -> str:
    """The name, with a number behind it when it is taken."""
    taken = set(taken)
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}-{number}", number + 1
    return candidate


def _named() -> Iterable[Namespace]:
    try:
        entries = sorted(os.listdir(NAMED_NETNS))
    except OSError:
        return
    # A file there on which nothing is mounted (any more) is on another device.
    device = identity(OWN_NETNS)[0]
    for name in entries:
        path = NAMED_NETNS + name
        try:
            which = identity(path)
        except OSError:
            continue
        if which[0] == device:
            yield Namespace(path, name, which, named=True)


def _processes() -> list[int]:
    """Process ids, oldest first as far as ids tell."""
    pids = sorted(int(entry) for entry in os.listdir(_PROC) if entry.isdigit())
    return pids[:_MOST_PROCESSES]


def _command(pid: int) -> str:
    try:
        text = (_PROC / str(pid) / "comm").read_text(errors="replace").strip()
    except OSError:
        return "process"
    return _ODD.sub("_", text) or "process"
