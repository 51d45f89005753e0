"""The host, the namespaces that belong to it, and all that cables lead to from there.

Containers come and go while this one reads: what leads to a namespace that was not there at the
beginning, or that has gone since, is read once more.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

from kvmdiag.collect.cables import far_namespaces, plugged
from kvmdiag.collect.discovery import Identity, known_namespaces, unique
from kvmdiag.collect.processes.holders import read_holders
from kvmdiag.collect.scope import Scope
from kvmdiag.collect.stack import Reading, read_stack, unread_stack
from kvmdiag.errors import NotReadableError
from kvmdiag.model.snapshot import Gap
from kvmdiag.system.namespaces import THREAD_NETNS, entered, identity

HOST = "host"
_ATTEMPTS = 2
_ANYWHERE = ("0.0.0.0/0", "::/0")


def read_stacks(
    scope: Scope, tell: Callable[[str], None]
) -> tuple[dict[Identity, Reading], tuple[Gap, ...]]:
    """The readings, the host's first, and what is not known of the namespaces there are.

    Raises:
        NotReadableError: the namespace that is to be the host cannot be entered.

    """
    stacks = _Stacks(scope, tell)
    stacks.read()
    return plugged(stacks.readings, stacks.ends, stacks.unseen()), tuple(stacks.gaps())


class _Stacks:
    def __init__(self, scope: Scope, tell: Callable[[str], None]) -> None:
        self._scope = scope
        self._tell = tell
        self._known = known_namespaces()
        with entered(scope.host):
            self._host = identity(THREAD_NETNS)
        self._holders = read_holders()
        self._names = {self._host: HOST}
        self._chosen = _chosen_names(scope)
        self._found = {self._host}
        self._gone: set[Identity] = set()
        self.readings: dict[Identity, Reading] = {}
        self.ends: dict[Identity, Mapping[int, Identity]] = {}

    def read(self) -> None:
        """Read the host and whatever there is to be found from it."""
        belonging = self._known.belonging(self._scope, self._host)
        waiting = [self._host, *(namespace.identity for namespace in belonging)]
        self._found.update(waiting)
        self._read_on(waiting)
        self._read_on([here for here in self.readings if self._gone_from(here)])

    def _read_on(self, waiting: list[Identity]) -> None:
        while waiting:
            waiting += self._read(waiting.pop(0))

    def _read(self, here: Identity) -> list[Identity]:
        """Read one, and give those that it leads to and that nobody has found before."""
        for _ in range(_ATTEMPTS):
            reading = self._reading(here)
            if reading is None:
                self._gone.add(here)
                self.readings.pop(here, None)
                return []
            self.readings[here] = reading
            path = self._path(here)
            self.ends[here] = far_namespaces(path, reading, self._known, self._host)
            if not self._lost(here) or not self._look_again():
                break
        led_to = dict.fromkeys(filter(self._is_new, self.ends[here].values()))
        self._found.update(led_to)
        return list(led_to)

    def _lost(self, here: Identity) -> set[str]:
        """Links of which it is not known where they lead."""
        attachments, ends = self.readings[here].attachments, self.ends[here]
        return {a.name for a in attachments if a.nsid is not None and a.nsid not in ends}

    def _look_again(self) -> bool:
        """Whether other namespaces are there by now than were before."""
        before, self._known = self._known, known_namespaces()
        return before.namespaces.keys() != self._known.namespaces.keys()

    def _path(self, here: Identity) -> str:
        return self._scope.host if here == self._host else self._known.namespaces[here].path

    def _is_new(self, there: Identity) -> bool:
        namespace = self._known.namespaces.get(there)
        if there in self._found or namespace is None:
            return False
        return self._known.admits(self._scope, self._host, namespace)

    def _reading(self, here: Identity) -> Reading | None:
        """Its facts; ``None`` when it has gone, or become another, since it was found."""
        if here == self._host:
            with entered(self._scope.host):
                return read_stack(HOST, "host", self._scope.host, self._holders)
        if here not in self._known.namespaces:
            return None
        name, path = self._name(here), self._path(here)
        self._tell(f"reading {name}, {len(self.readings) + 1} of {len(self._found)} stacks")
        try:
            if identity(path) != here:
                return None
            with entered(path):
                return read_stack(name, "namespace", path, self._holders)
        except FileNotFoundError:
            return None
        except NotReadableError as error:
            return unread_stack(name, "namespace", path, error) if os.path.exists(path) else None

    def _name(self, here: Identity) -> str:
        if here not in self._names:
            wanted = self._chosen.get(here, self._known.namespaces[here].name)
            self._names[here] = unique(wanted, self._names.values())
        return self._names[here]

    def unseen(self) -> dict[Identity, frozenset[str]]:
        """Links of each that lead to a namespace that belongs here and was not seen."""
        return {
            here: frozenset(self._gone_from(here) | self._hidden_from(here))
            for here in self.readings
        }

    def _gone_from(self, here: Identity) -> set[str]:
        attachments, ends = self.readings[here].attachments, self.ends[here]
        led_to = {a.name: ends.get(a.nsid) for a in attachments if a.nsid is not None}
        return {name for name, there in led_to.items() if there in self._gone}

    def _hidden_from(self, here: Identity) -> set[str]:
        """Those that lead to what may not be looked at.

        A namespace that nobody knows although all may be looked at is none of ours: in a
        container, that of the machine. Without the rights to look at all, what a default route
        leads out by is taken for such a one.
        """
        if not self._known.hidden:
            return set()
        return self._lost(here) - _uplinks(self.readings[here])

    def gaps(self) -> Iterator[Gap]:
        """What is not known of the namespaces there are."""
        number = self._known.left_out(self._scope, self._host)
        if number:
            why = f"{number} namespaces of processes, to which no cable leads, were not looked at"
            help_ = "leave others out: --exclude-netns"
            yield Gap(stack=None, fact="stacks", why=why, help=help_)
        for here, reading in self.readings.items():
            for names, where, help_ in (
                (self._gone_from(here), "that went away meanwhile", "run kvmdiag again"),
                (
                    self._hidden_from(here),
                    "of processes that may not be looked at",
                    "run as root (sudo)",
                ),
            ):
                if names:
                    why = f"{', '.join(sorted(names))} lead to namespaces {where}"
                    yield Gap(stack=reading.stack.name, fact="peers", why=why, help=help_)


def _uplinks(reading: Reading) -> set[str]:
    """The links that default routes lead out by."""
    return {
        hop.link
        for route in reading.stack.routes or ()
        if route.destination in _ANYWHERE
        for hop in route.next_hops
        if hop.link is not None
    }


def _chosen_names(scope: Scope) -> dict[Identity, str]:
    """The scope's names by namespace, whichever of its paths was used."""
    names = {}
    for path, name in scope.names.items():
        try:
            names[identity(path)] = name
        except OSError:
            continue
    return names
