"""Which network namespaces there are on this machine, and by which names people know them.

Named ones (``ip netns``: also those of Neutron, qrouter- and the like) come first; a
namespace without a name is known by its oldest processes, or by where else it is mounted.
Source: ip-netns(8), proc(5), network_namespaces(7).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kvmdiag.collect.processes.owners import Holder, owner, plain
from kvmdiag.collect.scope import Scope
from kvmdiag.model.stack import NAMED_NETNS, OWN_NETNS
from kvmdiag.system.namespaces import host_name, identity

PRACTICE_PREFIX = "kvmdiag-"
_PROC = Path("/proc")
# More processes than this are not looked at; a namespace has to have one of the oldest.
_MOST_PROCESSES = 65536
# A name is looked for among so many of the oldest processes of a namespace.
_MOST_HOLDERS = 8
_MOST_TEXT = 1 << 14
# Namespaces that no cable leads to, and that have no name: more are not looked at.
MOST_UNCONNECTED = 128
# Named by a program, for itself; people know the pod.
_MACHINE_MADE = ("cni-",)

Identity = tuple[int, int]


@dataclass(frozen=True)
class Namespace:
    """A network namespace. ``named`` tells those of ``ip netns`` from those of processes.

    ``others`` are further names by which it may be taken or left out.
    """

    path: str
    name: str
    identity: Identity
    named: bool
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Known:
    """All namespaces that could be told apart.

    ``hidden`` is true when there are processes whose namespace may not be looked at.
    """

    namespaces: Mapping[Identity, Namespace]
    hidden: bool

    def belonging(self, scope: Scope, host: Identity) -> tuple[Namespace, ...]:
        """Those that are looked at whether or not a cable leads to them.

        All belong to the machine kvmdiag runs on, as many as are looked at; those included by
        name belong to whatever is looked at.
        """
        candidates = self._candidates(scope, host)
        left_out = set(self._too_many(scope, candidates))
        return tuple(one for one in candidates if one.identity not in left_out)

    def left_out(self, scope: Scope, host: Identity) -> int:
        """How many of those that belong are not looked at, because there are too many."""
        return len(self._too_many(scope, self._candidates(scope, host)))

    def _candidates(self, scope: Scope, host: Identity) -> list[Namespace]:
        if not scope.include and not self._is_machine(scope, host):
            return []
        return [
            namespace
            for namespace in self.namespaces.values()
            if namespace.identity != host and self.admits(scope, host, namespace)
        ]

    def _too_many(self, scope: Scope, candidates: list[Namespace]) -> list[Identity]:
        unnamed = [one.identity for one in candidates if not one.named]
        return [] if scope.include else unnamed[MOST_UNCONNECTED:]

    def admits(self, scope: Scope, host: Identity, namespace: Namespace) -> bool:
        """Whether the scope lets it be looked at, should it belong to the host."""
        practice = namespace.name.startswith(PRACTICE_PREFIX)
        if practice and not scope.include and self._is_machine(scope, host):
            return False
        return scope.takes(namespace.name, *namespace.others)

    def _is_machine(self, scope: Scope, host: Identity) -> bool:
        """Whether the host is the real one, as far as can be told, not a namespace on it."""
        itself = self.namespaces.get(host)
        return scope.host == OWN_NETNS and (itself is None or not itself.named)


def known_namespaces() -> Known:
    """Every namespace with a name, with a process, or mounted somewhere."""
    found: dict[Identity, Namespace] = {}
    for namespace in _named():
        found.setdefault(namespace.identity, namespace)
    inside, hidden = _inhabited()
    for which, pids in inside.items():
        known = found.get(which)
        if known is not None and not known.name.startswith(_MACHINE_MADE):
            continue
        name, others = _owner_names(pids)
        if known is None:
            path = f"/proc/{pids[0]}/ns/net"
            found[which] = Namespace(path, name, which, named=False, others=others)
        else:
            others = (known.name, *others)
            found[which] = Namespace(known.path, name, which, named=True, others=others)
    for path in _mounted():
        try:
            which = identity(path)
        except OSError:
            continue
        name = plain(path.rpartition("/")[2])
        found.setdefault(which, Namespace(path, name, which, named=False))
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


def _inhabited() -> tuple[dict[Identity, list[int]], bool]:
    """The oldest processes of each namespace, and whether there are any hidden ones."""
    found: dict[Identity, list[int]] = {}
    # Process ids tell age as far as ids can.
    pids = sorted(int(entry) for entry in os.listdir(_PROC) if entry.isdigit())
    hidden = len(pids) > _MOST_PROCESSES
    for pid in pids[:_MOST_PROCESSES]:
        try:
            inside = found.setdefault(identity(f"/proc/{pid}/ns/net"), [])
        except PermissionError:
            hidden = True
            continue
        except OSError:
            # It has ended since.
            continue
        if len(inside) < _MOST_HOLDERS:
            inside.append(pid)
    return found, hidden


def _owner_names(pids: list[int]) -> tuple[str, tuple[str, ...]]:
    """The name for people, and further ones, of a namespace that these processes are in."""
    found = owner([_holder(pid) for pid in pids])
    named = _pod_name(pids[0]) if found.in_pod else None
    return (named, (found.name, *found.others)) if named else (found.name, found.others)


def _pod_name(pid: int) -> str | None:
    """Kubernetes gives a pod its own name as host name, unless it shares the node's."""
    name = host_name(pid)
    return None if name is None or name == os.uname().nodename else f"pod-{plain(name)}"


def _holder(pid: int) -> Holder:
    return Holder(
        pid=pid,
        command=_text(pid, "comm").strip(),
        cgroup=_text(pid, "cgroup"),
        arguments=tuple(_text(pid, "cmdline").split("\0")),
    )


def _text(pid: int, name: str) -> str:
    try:
        with open(_PROC / str(pid) / name, errors="replace") as file:
            return file.read(_MOST_TEXT)
    except OSError:
        return ""


def _mounted() -> Iterator[str]:
    """Where namespaces are kept, other than by ``ip netns`` (Docker: /run/docker/netns)."""
    try:
        lines = (_PROC / "self/mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        words = line.split(" ")
        # ID, parent, device, root within the file system, mount point ...
        if len(words) > 4 and words[3].startswith("net:[") and "\\" not in words[4]:
            yield words[4]
