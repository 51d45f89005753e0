"""An agent of a guest that a namespace plays, and how the host sees such guests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from kvmdiag.errors import NotReadableError
from kvmdiag.model.link import LinkRef
from kvmdiag.model.snapshot import Snapshot
from kvmdiag.probes.observation import Observation
from kvmdiag.probes.trace import observe

THERE = "a/a0> >r/r0 r/br0 r/rb> >b/b0"
BACK = "b/b0> >r/rb r/br0> r/r0> >a/a0"
WAY = ["a/a0", "r/r0", "r/br0", "r/rb", "b/b0"]


@dataclass
class FakeAgent:
    """Runs in a namespace what it is asked to; ``busybox`` gives its ping instead of iputils'.

    It has no program whose name is in ``lacks``; ``says`` replaces what a program prints.
    """

    namespace: Any
    busybox: bool = False
    lacks: tuple[str, ...] = ()
    says: dict[str, str] = field(default_factory=dict)
    asked: list[list[str]] = field(default_factory=list)
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, path: str, arguments: Sequence[str]) -> int:
        """As guest-exec; the number is that of the process, which may be ended by it."""
        name = path.rpartition("/")[2]
        if name in self.lacks:
            raise NotReadableError(f"{path}: no such program")
        self.asked.append([path, *arguments])
        program = ["busybox", "ping"] if self.busybox and name == "ping" else [name]
        if name == "python3":
            program = [sys.executable]
        command = ["nsenter", f"--net={self.namespace.path}", *program, *arguments]
        with_output = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace"
        )
        self.running.append(with_output)
        return with_output.pid

    def result(self, pid: int) -> Any:
        """As guest-exec-status."""
        program = next(one for one in self.running if one.pid == pid)
        out, _ = program.communicate(timeout=15)
        name = program.args[2].rpartition("/")[2]  # type: ignore[index,union-attr]
        return _Ended(program.returncode, self.says.get(name, out))

    def read(self, path: str) -> str:
        """As guest-file-read."""
        return str(self.namespace.run(f"cat {path}").stdout)


@dataclass
class _Ended:
    code: int
    out: str


class Refusing(FakeAgent):
    """An agent that starts nothing."""

    def start(self, path: str, arguments: Sequence[str]) -> int:
        """As guest-exec where it is forbidden."""
        del arguments
        raise NotReadableError(f"{path}: forbidden")


_ATTEMPTS = 3
TIES = {"r0": LinkRef("a", "a0"), "r1": LinkRef("c", "c0"), "rb": LinkRef("b", "b0")}


def seen_from_outside(net: Any, *guests: str) -> Snapshot:
    """The facts, with ``a`` (or others) a guest whose inside cannot be entered."""
    snapshot: Snapshot = net.snapshot()
    for name in guests or ("a",):
        guest = msgspec.structs.replace(snapshot.stack(name), kind="guest", netns=None)
        snapshot = snapshot.with_stack(guest)
    router = snapshot.stack("r")
    links = tuple(
        msgspec.structs.replace(link, peer=TIES.get(link.name)) for link in router.links or ()
    )
    return snapshot.with_stack(msgspec.structs.replace(router, links=links))


def looked_inside(snapshot: Snapshot, predicted: Any, timeout: float, enter: Any) -> Observation:
    """With a look inside; again where a busy machine was too late with it, which is told."""
    for _ in range(_ATTEMPTS):
        seen = observe(snapshot, predicted, timeout=timeout, enter=enter)
        if not seen.blind:
            break
    return seen
