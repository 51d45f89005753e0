"""What a guest has that is of use to us, found out by starting it through the guest's agent.

Only programs by their full path with lists of arguments, made of our own numbers and of
addresses that have been parsed; no shell sees them. What they print is the guest's word.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from kvmdiag.errors import KvmdiagError, NotReadableError

_BINARIES = ("/usr/bin", "/bin", "/usr/sbin", "/sbin")
_PYTHONS = ("/usr/bin/python3", "/usr/libexec/platform-python", "/usr/local/bin/python3")


class Ended(Protocol):
    """How a program inside a guest ended."""

    @property
    def code(self) -> int:
        """Its exit code."""

    @property
    def out(self) -> str:
        """What it printed, undecodable bytes replaced."""


class GuestPrograms(Protocol):
    """The agent of a guest; each method may raise a KvmdiagError."""

    def start(self, path: str, arguments: Sequence[str]) -> int:
        """Start a program by its full path; its number."""

    def result(self, pid: int) -> Ended:
        """Wait for its end."""

    def read(self, path: str) -> str:
        """The content of a file."""


class Ping(NamedTuple):
    """A guest's ping; that of iputils alone tells its version, and takes a pattern of 16 bytes."""

    path: str
    full: bool


class Inside:
    """A guest's inside; each program is looked for once.

    ``programs`` may be replaced by another that leads to the same guest.
    """

    def __init__(self, programs: GuestPrograms) -> None:
        self.programs = programs
        self._lock = threading.Lock()
        self._found: dict[str, tuple[str, int] | None] = {}

    def run(self, path: str, *arguments: str) -> Ended:
        """Start a program and wait for its end."""
        return self.programs.result(self.programs.start(path, arguments))

    def ping(self) -> Ping:
        """Where ping is.

        Raises:
            NotReadableError: there is none.

        """
        path, code = self._one("ping", _in_binaries("ping"), "-V")
        return Ping(path, code == 0)

    def python(self) -> str:
        """Where a Python 3 is.

        Raises:
            NotReadableError: there is none that works.

        """
        path, code = self._one("python3", _PYTHONS, "-I", "-S", "-c", "")
        if code:
            raise NotReadableError("python3 does not work in the guest")
        return path

    def program(self, name: str, *harmless: str) -> str:
        """Where a program is that ends at once with the arguments ``harmless``.

        Raises:
            NotReadableError: there is none.

        """
        return self._one(name, _in_binaries(name), *harmless)[0]

    def _one(self, name: str, paths: Iterable[str], *arguments: str) -> tuple[str, int]:
        with self._lock:
            if name not in self._found:
                self._found[name] = self._search(paths, arguments)
            found = self._found[name]
        if found is None:
            raise NotReadableError(f"the agent does not start {name} in the guest")
        return found

    def _search(self, paths: Iterable[str], arguments: Sequence[str]) -> tuple[str, int] | None:
        for path in paths:
            try:
                return path, self.run(path, *arguments).code
            except KvmdiagError:
                continue
        return None


Enter = Callable[[str], Inside | None]
"""Gives the inside of the guest whose stack has this name; ``None`` when it cannot be asked."""


def _in_binaries(name: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}" for folder in _BINARIES)
